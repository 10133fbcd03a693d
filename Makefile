# make train, make test, ...: each first makes .venv and the extension if they are missing or stale.
# Options of a script go into ARGS: make train ARGS="--epochs 2 --seed 1"

PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check
ARGS ?=
# TORCH=cpu installs PyTorch's smaller build without CUDA
TORCH ?=
TORCH_INDEX := https://download.pytorch.org/whl

# one thing after the other: two processes must not install into .venv at once
.NOTPARALLEL:

.PHONY: help install install-torch train train-l2reg pytorch-mnist pytorch-cifar hinge \
        check-grads summary report demo handout start test test-numpy test-browser bench lint \
        extension replaced-environment clean

help:
	@echo "make install       the environment .venv for Tasks 1 and 2, and the extension"
	@echo "make install-torch PyTorch into it, for Tasks 3 and 4; TORCH=cpu: without CUDA, smaller"
	@echo "make train         Task 1: train the network on MNIST"
	@echo "make train-l2reg   Task 2: the same with L2 regularization"
	@echo "make pytorch-mnist Task 3: the network of Task 2 in PyTorch"
	@echo "make pytorch-cifar Task 4: CIFAR-10 in PyTorch"
	@echo "make hinge         the bonus: hinge loss against cross-entropy"
	@echo "make check-grads   compare analytic with numeric gradients"
	@echo "make summary       sizes, parameters, receptive fields and memory of the network"
	@echo "make report        run what has not been run, then write the report page, out/report.html"
	@echo "make demo          the same on small generated data, in two minutes: out/demo/report.html"
	@echo "make handout       for teachers: the lab without its solutions, out/handout.zip"
	@echo "make start         for learners: my_layers.py with gaps, files for answers; see LAB.md"
	@echo "make test          lint and tests"
	@echo "make test-numpy    the same without PyTorch, for Tasks 1 and 2"
	@echo "make test-browser  the report page in Chromium; needs chromium, chromedriver and npm"
	@echo "make bench         our kernels against PyTorch's: time a step, a layer, memory"
	@echo "make clean         remove .venv and what the compiler made; data and runs stay"

install: extension
	@echo "now: source .venv/bin/activate"

install-torch: extension .venv/torch-half
	@echo "now: source .venv/bin/activate"

train: extension
	$(PY) train.py $(ARGS)

train-l2reg: extension
	$(PY) train_l2reg.py $(ARGS)

pytorch-mnist: .venv/torch-half
	$(PY) pytorch_mnist.py $(ARGS)

pytorch-cifar: .venv/torch-half
	$(PY) pytorch_cifar.py $(ARGS)

hinge: .venv/torch-half
	$(PY) hinge_bonus.py $(ARGS)

check-grads: extension
	$(PY) check_grads.py $(ARGS)

summary: extension
	$(PY) train.py --summary $(ARGS)

report: extension .venv/torch-half
	$(PY) report.py --run-missing $(ARGS)

demo: extension .venv/torch-half
	$(PY) report.py --demo $(ARGS)

handout: extension
	$(PY) handout.py $(ARGS)

start: extension
	$(PY) handout.py --start $(ARGS)

# a process a core, whose threads must not spin while they wait: that would slow down the others
test: extension .venv/torch-half lint
	OMP_WAIT_POLICY=passive $(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

test-numpy: extension lint
	OMP_WAIT_POLICY=passive $(PY) -m pytest --numpy-only --numprocesses auto --maxprocesses 4 \
	    --dist loadfile $(ARGS)

# axe-core, which checks accessibility, is fetched for the tests only
test-browser: extension .venv/torch-half .venv/test-tools
	npm install --silent --no-save --prefix .browser-tools axe-core || echo "axe-core is not to be had"
	$(PY) -m pytest tests/*_browser.py --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

bench: extension .venv/torch-half .venv/test-tools
	$(PY) benchmarks/bench_step.py $(ARGS)
	$(PY) benchmarks/bench_layers.py
	$(PY) benchmarks/bench_memory.py

lint: .venv/test-tools
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

# An environment whose Python has vanished, or that was moved or copied here, is made anew.
ENVIRONMENT_WORKS := . .venv/bin/activate && test "$$VIRTUAL_ENV" -ef .venv && python -c ""
REPLACED := $(shell ($(ENVIRONMENT_WORKS)) 2> /dev/null || echo yes)

.venv/numpy-half: requirements-numpy.txt $(if $(REPLACED),replaced-environment)
	@$(PY) -m pip --version > /dev/null 2>&1 || $(PY) -m ensurepip > /dev/null
	@echo "installing requirements-numpy.txt into .venv"
	@$(PIP) --quiet -r requirements-numpy.txt
	@touch $@

replaced-environment:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed: make PYTHON=python3.x ..."; exit 1; }
	@$(PYTHON) -m venv --clear .venv

.venv/torch-half: requirements.txt .venv/numpy-half
	@$(PY) -c "import torch" 2> /dev/null || { \
	    echo "installing PyTorch into .venv; it is large, on Linux 6 GB with CUDA's libraries."; \
	    echo "A smaller build, without CUDA: stop with Ctrl-C and add TORCH=cpu to the command, or"; \
	    echo ".venv/bin/python -m pip install torch torchvision --index-url $(TORCH_INDEX)/cpu"; }
	@$(if $(TORCH),$(PIP) torch torchvision --index-url $(TORCH_INDEX)/$(TORCH))
	@$(PIP) -r requirements.txt
	@touch $@

.venv/test-tools: requirements-dev.txt .venv/numpy-half
	@echo "installing requirements-dev.txt into .venv"
	@$(PIP) --quiet -r requirements-dev.txt
	@touch $@

# itself finds out whether there is anything to do: times of files say little about sources
extension: .venv/numpy-half
	@$(PY) setup_cython.py --quiet build_ext --inplace

clean:
	rm -rf .venv .browser-tools build build-*
	rm -f *.c *.so *.pyd kernels/*.c kernels/*.so kernels/*.pyd
