"""One module for each kind of datastore; `data.objects` says what they promise and picks one."""
