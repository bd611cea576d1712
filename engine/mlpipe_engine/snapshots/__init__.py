"""Source directories: what belongs to them, frozen copies, and which of their files a step used."""
