# make train, make test, ...: each first makes .venv and the extension if they are missing or stale.
# Options of a script go into ARGS: make train ARGS="--epochs 2 --seed 1"

PYTHON ?= python3
PY := .venv/bin/python
# the extension if there is one, else a name that is never there and so always made
EXTENSION := $(firstword $(wildcard im2col_cython*.so im2col_cython*.pyd) extension)
ARGS ?=

.PHONY: help train train-l2reg pytorch-mnist pytorch-cifar hinge check-grads summary report demo \
        test test-browser bench lint clean

help:
	@echo "make train         Task 1: train the network on MNIST"
	@echo "make train-l2reg   Task 2: the same with L2 regularization"
	@echo "make pytorch-mnist Task 3: the network of Task 2 in PyTorch"
	@echo "make pytorch-cifar Task 4: CIFAR-10 in PyTorch"
	@echo "make hinge         the bonus: hinge loss against cross-entropy"
	@echo "make check-grads   compare analytic with numeric gradients"
	@echo "make summary       sizes, parameters, receptive fields and memory of the network"
	@echo "make report        run what has not been run, then write the report page, out/report.html"
	@echo "make demo          the same on small generated data, in three minutes: out/demo/report.html"
	@echo "make test          lint and tests"
	@echo "make test-browser  the report page in Chromium; needs chromium, chromedriver and npm"
	@echo "make bench         our kernels against PyTorch's: time a step, a layer, memory"
	@echo "make clean         remove .venv and what the compiler made; data and runs stay"

train: $(EXTENSION)
	$(PY) train.py $(ARGS)

train-l2reg: $(EXTENSION)
	$(PY) train_l2reg.py $(ARGS)

pytorch-mnist: .venv/installed
	$(PY) pytorch_mnist.py $(ARGS)

pytorch-cifar: .venv/installed
	$(PY) pytorch_cifar.py $(ARGS)

hinge: .venv/installed
	$(PY) hinge_bonus.py $(ARGS)

check-grads: $(EXTENSION)
	$(PY) check_grads.py

summary: $(EXTENSION)
	$(PY) train.py --summary $(ARGS)

report: $(EXTENSION)
	$(PY) report.py --run-missing $(ARGS)

demo: $(EXTENSION)
	$(PY) report.py --demo $(ARGS)

# a process a core, whose threads must not spin while they wait: that would slow down the others
test: lint
	OMP_WAIT_POLICY=passive $(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

# axe-core, which checks accessibility, is fetched for the tests only
test-browser: $(EXTENSION) .venv/installed-dev
	npm install --silent --no-save --prefix .browser-tools axe-core || echo "axe-core is not to be had"
	$(PY) -m pytest tests/test_report_browser.py $(ARGS)

bench: $(EXTENSION) .venv/installed-dev
	$(PY) benchmarks/bench_step.py
	$(PY) benchmarks/bench_layers.py
	$(PY) benchmarks/bench_memory.py

lint: $(EXTENSION) .venv/installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

.venv/installed: requirements.txt
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@echo "installing requirements.txt into .venv; PyTorch is large"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	@echo "installing requirements-dev.txt into .venv"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(EXTENSION): im2col_cython.pyx vector_kernels.h setup_cython.py .venv/installed
	$(PY) setup_cython.py --quiet build_ext --inplace
	@touch im2col_cython*.so

clean:
	rm -rf .venv .browser-tools build im2col_cython.c im2col_cython*.so
