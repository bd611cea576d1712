"""Definition files: found, loaded in a child process, cached by what they really used."""
