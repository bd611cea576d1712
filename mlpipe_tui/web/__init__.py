"""The app in a browser of this machine (extra `[web]`): the same app, behind a guard that lets no other page in."""
