# Every target sets up what it needs, once: `make demo` and `make test` work in an empty clone with
# Python 3.10+, g++ and make. CI calls the same targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready
CUTE := $(VENV)/cute
CMAKE_ARGS = -DPython_EXECUTABLE=$(abspath $(BIN)/python) -DSIMCLR_CUTE=$(abspath $(CUTE))
# One more than there are processors, up to 8: many tests wait for processes of their own. Tests of a
# file share what it compiles or trains, so a file stays with one.
TESTERS := $(shell n=$$(nproc); echo $$((n < 8 ? n + 1 : 8)))
PYTEST = $(BIN)/python -m pytest -q -n $(TESTERS) --dist loadfile --no-loadscope-reorder
# What calls the operators with many shapes, dtypes, pairings and threads.
SANITIZED = tests/test_accuracy.py tests/test_value_and_grad.py tests/test_contrastive.py \
	tests/test_half_products.py tests/test_products.py tests/test_concurrency.py \
	tests/losses/test_stats.py tests/properties
CPP := $(sort $(shell find csrc examples/cpp tests/cpp tests/cuda_host \
	-name '*.cpp' -o -name '*.h' -o -name '*.inl' -o -name '*.cu*'))

.PHONY: demo test test-fast test-cpp test-arm extras cuda compat lint format lock audit dist bench bench-full \
	generated docs sanitize fuzz-operators properties mutants fuzz clean

# As many processes run at once as there are processors, with threads each: threads that wait must not
# spin, which took three times the processor time of some tests on a busy machine.
test test-fast test-cpp sanitize extras: export OMP_WAIT_POLICY = passive

demo: $(READY)
	$(BIN)/simclr-ext demo

# About 16 minutes on two cores, the first time with all set-up.
test: $(READY)
	$(MAKE) --jobs=2 lint test-cpp
	$(PYTEST)

test-fast: $(READY)
	$(PYTEST) -m 'not build'

# The C++ library without Python, its unit tests, and the CUDA kernels run on the CPU.
test-cpp: $(READY)
	$(BIN)/cmake -S . -B build/cmake $(CMAKE_ARGS)
	$(BIN)/cmake --build build/cmake --parallel 2
	$(BIN)/ctest --test-dir build/cmake --parallel 2 --output-on-failure

# The same under AddressSanitizer and UndefinedBehaviorSanitizer, the order of the tiles under
# ThreadSanitizer; and the operators, called from Python, under the first two.
sanitize: $(READY)
	$(BIN)/cmake -S . -B build/sanitize $(CMAKE_ARGS) -DSIMCLR_SANITIZE=ON
	$(BIN)/cmake --build build/sanitize --parallel 2
	$(BIN)/ctest --test-dir build/sanitize --parallel 2 --output-on-failure
	$(BIN)/python -m tests.sanitized -m tests.guarded 1 200
	$(BIN)/python -m tests.sanitized -m pytest -q -p no:cacheprovider $(SANITIZED)

# 20,000 random calls of the operators under the same, a quarter of them refused: ten minutes.
fuzz-operators: $(READY)
	$(BIN)/python -m tests.sanitized -m tests.guarded 0 5000

# 5,000 inputs of the losses, others in each run; `make test` has 300 of them.
properties: $(READY)
	HYPOTHESIS_PROFILE=many $(PYTEST) --dist load tests/properties

# The C++ library and its unit tests compiled for 64-bit Arm and run in an emulator. Needs Debian's
# g++-aarch64-linux-gnu and qemu-user.
test-arm: $(READY)
	$(BIN)/python tests/arm.py

# Plants faults in the kernels, one at a time, and checks that the tests find each; those of a change
# alone: python -m tests.mutants --changed REVISION; those never run: --new
mutants: $(READY)
	$(BIN)/python -m tests.mutants

# An hour of mutated files for every reader, guided by coverage; what is a fault is kept in build/fuzz. Apart
# from the environment: there are wheels of atheris for some versions of Python alone.
fuzz: $(READY)
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/fuzz 'atheris>=3'
	PYTHONPATH=$(abspath $(VENV)/fuzz) $(BIN)/python -m tests.fuzz --seconds 3600

# The extras whose packages are too large for `make test`, where their tests skip. Apart from the
# environment, so that `make lock` does not pin them; pyarrow and torch are the environment's, of which
# there must not be two: accelerate's dependencies are torch and packages of the others.
extras: $(READY)
	$(BIN)/pip install --quiet -c constraints.txt --upgrade --target $(VENV)/extras \
	  datasets ipykernel jax mlflow-skinny nbclient optax transformers wandb
	$(BIN)/pip install --quiet --no-deps -c constraints.txt --upgrade --target $(VENV)/extras accelerate
	rm -rf $(VENV)/extras/pyarrow*
	PYTHONPATH=$(abspath $(VENV)/extras) $(PYTEST) tests/trainer/training/loggers tests/trainer/data/test_hub.py \
	  tests/test_examples.py tests/jax simclr_ext/jax

# Every kernel for every architecture; needs a CUDA toolkit and no GPU. Apart from the checkout, whose
# own kernels stay those that are compiled at first use.
cuda: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" SIMCLR_EXT_BUILD=aot SIMCLR_EXT_CUDA=1 $(BIN)/pip install --quiet \
	  --no-deps --no-build-isolation --upgrade --target build/cuda .
	cd build/cuda && $(abspath $(BIN))/python -m simclr_ext doctor

# The tests on every version of torch that the package is said to run on, for the table in
# docs/compatibility.md: 5 GB and ten minutes each.
compat: $(READY)
	$(BIN)/python tests/compat.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.generated
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

# Pins what is installed: to upgrade, pip install --upgrade in $(VENV), pass the tests, make lock.
lock: $(READY)
	{ sed '/^#/!d' constraints.txt; \
	  { $(BIN)/pip freeze --all --exclude-editable --exclude pip; \
	    $(BIN)/pip freeze --path $(CUTE); } | sort -fu | \
	    sed -E '/^(torch|torchvision|nvidia-.*)==/! s/$$/ ; python_full_version >= "3.11.5"/'; \
	} > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt

# Licenses and known vulnerabilities of what is pinned, and the workflow of CI. Asks an advisory service
# for the vulnerabilities; the tools are apart from the environment that they look at.
audit: $(READY)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet check-jsonschema==0.39.0 pip-audit==2.10.1 pip-licenses==5.5.5 zizmor==1.32.0
	$(VENV)/audit/bin/pip-licenses --python $(BIN)/python --from mixed --format plain --summary
	$(VENV)/audit/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/audit/bin/zizmor --offline .github/workflows
	$(VENV)/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

# What is published: the sources, and the wheel whose kernels are compiled at first use. The same bytes
# for the same commit; a wheel with compiled kernels too, with SIMCLR_EXT_BUILD=aot.
dist: $(READY)
	rm -rf dist
	SIMCLR_EXT_BUILD=$${SIMCLR_EXT_BUILD:-jit} SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
	  $(BIN)/python -m build --no-isolation

# Twelve minutes on two cores; rows are added to benchmarks/results, the report is in build/bench.
bench: $(BENCH_READY)
	$(BIN)/python -m benchmarks.loss.sweep --plan quick
	$(BIN)/python -m benchmarks.loss.report

# Every size, for an hour.
bench-full: $(BENCH_READY)
	$(BIN)/python -m benchmarks.loss.sweep --plan full
	$(BIN)/python -m benchmarks.loss.report

# The README's chart, and all text in the guides that is made from committed results.
generated: $(READY)
	$(BIN)/python -m benchmarks.loss.plot
	$(BIN)/python -m tests.generated --write

# The site, for a browser to open at build/site/index.html; a warning is an error, as in tests/test_site.py.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The kernels are compiled at first use, so that what runs is always what csrc/ says.
$(READY): pyproject.toml constraints.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch torchvision 'setuptools>=77' wheel
	SIMCLR_EXT_BUILD=jit $(BIN)/pip install --quiet -c constraints.txt --no-build-isolation \
	  -e '.[trainer,onnx,parquet,safetensors,bench,dev]'
	# CuTe's headers and those that it includes, apart: a toolkit must not find them.
	$(BIN)/pip install --quiet --no-deps -c constraints.txt --upgrade --target $(CUTE) \
	  nvidia-cutlass nvidia-cuda-cccl nvidia-cuda-crt
	touch $(READY)

# The peers that tests do without: JAX alone is 0.4 GB.
$(BENCH_READY): $(READY)
	SIMCLR_EXT_BUILD=jit $(BIN)/pip install --quiet -c constraints.txt --no-build-isolation \
	  -e '.[bench,bench-peers]'
	touch $(BENCH_READY)

clean:
	rm -rf $(VENV) build dist *.egg-info
