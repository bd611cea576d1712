"""What screens show, as plain values: no Textual in here, so it is tested without a terminal."""
