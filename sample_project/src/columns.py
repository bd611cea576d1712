"""What the models may know. Everything here is known when a plane leaves the gate; nothing about its arrival is.

The month is left out: the months a model is tested on never occur in what it learns from.
"""

TARGET = "arr_delay"

NUMBERS = [
    "dep_delay",
    "sched_minute",
    "scheduled_minutes",
    "distance",
    "weekday",
    "seats",
    "plane_age",
    "temp",
    "wind_speed",
    "precip",
    "visib",
    "pressure",
]

CATEGORIES = ["carrier", "origin", "dest"]
