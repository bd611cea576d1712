# The chores live in dev.py, which needs nothing but Python; make only names them.
DEV := $(or $(PYTHON),python3) dev.py

.PHONY: demo test lint check gates bench faults lock
demo test lint check gates bench faults lock:
	@$(DEV) $@
