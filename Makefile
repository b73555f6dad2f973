# The two commands of the README, and the rest of a contributor's day. `make` alone lists them.
UV := .uv/bin/uv
# make test PYTHON=3.12 chooses an interpreter; else uv takes one that fits
RUN := $(UV) run $(if $(PYTHON),--python $(PYTHON))

.DEFAULT_GOAL := help
.PHONY: help demo test slow lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@command -v python3 >/dev/null || { echo "error: no python3; install Python 3.11, 3.12 or 3.13"; exit 1; }
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

demo: $(UV) ## train, measure and draw COFNet on scenes made on the spot
	$(RUN) python -m jaxvision.launch --config=configs/cofnet.py

test: $(UV) ## the test suite, in two processes
	$(RUN) pytest -n 2 --dist loadfile

slow: $(UV) ## the tests that take minutes
	$(RUN) pytest -m slow

lint: $(UV) ## ruff, check and format
	$(RUN) ruff check .
	$(RUN) ruff format --check .

format: $(UV) ## let ruff mend what it can
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: $(UV) ## time the training step of the default configuration
	$(RUN) python -m jaxvision.launch bench --config=configs/cofnet.py

clean: ## remove environments, runs and generated data
	rm -rf .uv .venv runs data
