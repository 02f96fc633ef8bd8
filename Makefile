# One fib and ToDo server, six times. `make help` lists what there is to type.

STAGES := stage1_sync stage2_fork stage3_threads stage4_nonblocking stage5_epoll stage6_coroutines
VARIANT ?= $(if $(filter fuzz,$(MAKECMDGOALS)),fuzz,release)
BUILD := build/$(VARIANT)

# As many at once as there are processors, unless -j says otherwise.
ifeq ($(filter -j%,$(MAKEFLAGS)),)
  MAKEFLAGS += -j$(shell nproc)
endif

# --- how it is compiled ------------------------------------------------------------------------------------------------

ifeq ($(VARIANT),release)
  OPTIMISE := -O2 -D_FORTIFY_SOURCE=2
else ifeq ($(VARIANT),debug)
  OPTIMISE := -O0
else ifeq ($(VARIANT),asan)
  OPTIMISE := -O1 -fno-omit-frame-pointer
  # The check of an object's type opens a pipe to look at it, and reports a fault where descriptors are short.
  SANITIZE := -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all
else ifeq ($(VARIANT),tsan)
  OPTIMISE := -O1 -fno-omit-frame-pointer
  SANITIZE := -fsanitize=thread
  WRAPPED := accept4 recv send
else ifeq ($(VARIANT),fuzz)
  # What `make fuzz` builds with: libFuzzer, which watches where each input leads, is a part of clang.
  CC := clang
  CXX := clang++
  OPTIMISE := -O1 -fno-omit-frame-pointer
  SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
  LLHTTP_SANITIZE := $(SANITIZE)
else
  $(error VARIANT=$(VARIANT) is none of release, debug, asan, tsan)
endif

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wold-style-cast -Wnon-virtual-dtor -Wno-missing-field-initializers
HARDEN := -fstack-protector-strong -fPIE
CPPFLAGS += -Icommon -MMD -MP
CXXFLAGS := -std=c++20 -g -pthread $(WARNINGS) $(HARDEN) $(OPTIMISE) $(SANITIZE)
LDFLAGS += -pthread -pie -Wl,-z,relro,-z,now $(SANITIZE) $(WRAPPED:%=-Wl,--wrap=%)
# Not asked before they are needed: `make deps` may have to install pkg-config first.
PACKAGES := fmt sqlite3 uuid
LDLIBS = $(shell pkg-config --libs $(PACKAGES)) $(LLHTTP_LIBS)

# llhttp: a library where the system has it; Debian 12 ships its C sources alone, which `make deps` unpacks.
LLHTTP := $(patsubst %,$(BUILD)/llhttp/%.o,llhttp api http)
LLHTTP_SOURCES = $(firstword $(wildcard /usr/share/llhttp /usr/local/share/llhttp))
LLHTTP_INCLUDE = $(if $(LLHTTP_SOURCES),-isystem $(LLHTTP_SOURCES:/llhttp=/include/llhttp))
LLHTTP_LIBS = $(if $(LLHTTP_SOURCES),,$(shell pkg-config --libs libllhttp))

# --- what it is made of --------------------------------------------------------------------------------------------------

COMMON := $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard common/*.cpp)) $(LLHTTP) $(if $(WRAPPED),$(BUILD)/tests/tsan.o)
UNIT := $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard tests/unit/*.cpp))
# The benchmark's load generator and its two references.
BENCH := $(patsubst tests/bench/%.cpp,$(BUILD)/bench/%,$(wildcard tests/bench/*.cpp))
# What fails on demand; where ThreadSanitizer's allocator is the program's, without memory.
FAULTS := $(if $(filter tsan,$(VARIANT)),$(BUILD),build)/faults.so
SOURCES := $(wildcard common/*.cpp stage*/*.cpp tests/unit/*.cpp tests/fuzz/*.cpp tests/bench/*.cpp)
HEADERS := $(wildcard common/*.hpp stage*/*.hpp tests/unit/*.hpp tests/fuzz/*.hpp)
# The programs to be used stand in their stages' directories; those of the other variants in build/.
PLACE := $(if $(filter release,$(VARIANT)),,$(BUILD)/)
objects = $(patsubst %.cpp,$(BUILD)/%.o,$(filter-out %/naive.cpp,$(wildcard $1/*.cpp)))
PROGRAMS := $(foreach stage,$(STAGES),$(PLACE)$(stage)/$(stage))

.PHONY: all help clean test browser bench compare soak trace gallery fuzz naive tutorial-check lint format deps deps-all diff
.PHONY: $(STAGES)
.DELETE_ON_ERROR:
all: $(PROGRAMS)

define stage_rules
$(PLACE)$1/$1: $(call objects,$1) $(COMMON)
	@mkdir -p $$(@D)
	$$(CXX) $$(LDFLAGS) $$^ $$(LDLIBS) -o $$@

.PHONY: $2 $(2:stage%=run%) $(2:stage%=watch%) $(2:stage%=trace%)
$1 $2: $(PLACE)$1/$1
	@$$(if $$(INSIDE),:,echo 'cd $1 && ./$1   (or: make $(2:stage%=run%))')

$(2:stage%=run%): $(PLACE)$1/$1
	@exec ./$$< $$(ARGS)

$(2:stage%=watch%): | $(filter deps deps-all,$(MAKECMDGOALS))
	@exec .ci/watch $1 $(PLACE)$1/$1 $$(ARGS)

$(2:stage%=trace%): $(PLACE)$1/$1
	@python3 tests/trace/record.py --ours --load '$$(LOAD)' $$< $$(ARGS)
endef
$(foreach stage,$(STAGES),$(eval $(call stage_rules,$(stage),$(firstword $(subst _, ,$(stage))))))

# Before deps has run there is nothing to compile with.
ifneq ($(filter deps deps-all,$(MAKECMDGOALS)),)
$(COMMON) $(UNIT) $(BENCH:$(BUILD)/bench/%=$(BUILD)/tests/bench/%.o) $(BUILD)/tests/fuzz/session_fuzz.o $(FAULTS) $(foreach stage,$(STAGES),$(call objects,$(stage))): | $(filter deps deps-all,$(MAKECMDGOALS))
endif

$(BUILD)/%.o: %.cpp Makefile
	@mkdir -p $(@D)
	$(CXX) $(CPPFLAGS) $(LLHTTP_INCLUDE) $(CXXFLAGS) -c $< -o $@

# The workload is the same in every variant: a sanitizer would slow it down tenfold, and has nothing to find in it.
$(BUILD)/common/fib.o: CXXFLAGS := -std=c++20 -O2 -g $(WARNINGS) $(HARDEN)

# The tests' own code is compiled more slowly than it runs, so it isn't optimised; _FORTIFY_SOURCE is for what is.
$(UNIT): CXXFLAGS += -O0 -U_FORTIFY_SOURCE

# It is in the object whole.
$(BUILD)/common/page.o: common/page.html

# Strict: loose parsing takes what other servers would read differently. Exceptions of our callbacks pass through it.
# Where the system has the library, there is nothing to compile, and the object is empty.
$(LLHTTP): $(BUILD)/llhttp/%.o: Makefile
	@mkdir -p $(@D)
	@$(if $(LLHTTP_SOURCES)$(LLHTTP_LIBS),,echo 'llhttp is missing: make deps installs it' >&2; exit 1)
	$(CC) $(LLHTTP_INCLUDE) -DLLHTTP_STRICT_MODE=1 $(LLHTTP_SANITIZE) -O2 -g -fPIE -fexceptions -c -o $@ -x c $(if $(LLHTTP_SOURCES),$(LLHTTP_SOURCES)/$*.c,/dev/null)

# What VARIANT=tsan needs so that no signal is slept through.
$(BUILD)/tests/tsan.o: tests/tsan.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -Wall -Wextra -Wshadow -O2 -g -fPIE -c $< -o $@

$(BUILD)/unit_tests: $(UNIT) $(COMMON)
	$(CXX) $(LDFLAGS) $^ $(LDLIBS) -lgtest -lgtest_main -o $@

# Stands before the C library's functions in a server under test (LD_PRELOAD), so it must not be built of others' inline ones.
$(FAULTS): tests/faults.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -Wall -Wextra -Wshadow -O2 -g -U_FORTIFY_SOURCE $(if $(filter tsan,$(VARIANT)),-DWITHOUT_MEMORY) \
	    -shared -fPIC $< -o $@ -ldl

# The unit tests run elsewhere, and replay what is in here.
$(BUILD)/tests/unit/fuzz_test.o: CPPFLAGS += -DFUZZ_FOLDER='"$(CURDIR)/tests/fuzz"'

$(BENCH): $(BUILD)/bench/%: $(BUILD)/tests/bench/%.o
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS) $^ -lfmt -o $@

$(BUILD)/session_fuzz: $(BUILD)/tests/fuzz/session_fuzz.o $(COMMON)
	$(CXX) $(LDFLAGS) -fsanitize=fuzzer $^ $(LDLIBS) -lgtest -o $@

-include $(wildcard $(BUILD)/*/*.d $(BUILD)/tests/*/*.d)

# --- what there is to type -------------------------------------------------------------------------------------------------

help:
	@echo 'make                     builds all six servers'
	@echo 'make stage3              builds one'
	@echo "make run3                builds and starts it; options: make run3 ARGS='--port 8080'"
	@echo 'make watch3              ... and again whenever a source of it changes, until Ctrl-C'
	@echo 'make deps                installs what building and testing need, from the packages of the system'
	@echo 'make deps-all            ... and what linters and fuzzer need, and what stands around a server: nginx, strace, chromium, …'
	@echo 'make test                builds what is missing and runs the tests; ends with: N passed, N failed'
	@echo "make test SERVER='python3 theirs.py {port}'"
	@echo '                         which parts of the protocols does a server of your own keep?'
	@echo 'make browser             the page in a headless Chromium, against all six; ends with: N passed, N failed'
	@echo 'make bench               how fast the servers are, beside two references and their peers: tests/bench/RESULTS.md;'
	@echo "                         QUICK=1 takes minutes instead of half an hour, and writes to the terminal; ONLY='costs memory'"
	@echo 'make compare             every technique in the same experiments, with plots and one page: build/compare/report.html;'
	@echo '                         ten minutes at most, with QUICK=1 two; TO=DIRECTORY puts the results elsewhere'
	@echo 'make soak                a mixed load on each technique, in release and under asan; SECONDS=60 STAGE=5 VARIANT=asan'
	@echo "make trace3              what stage 3 does with a few clients, seen by strace; LOAD='sleep 1, fib 42', LOAD=mine"
	@echo "make trace CMD='gunicorn app:app'"
	@echo '                         ... and what any other server does'
	@echo 'make gallery             the six stages side by side, and those of gunicorn and Node that are installed, on one page'
	@echo 'make fuzz SECONDS=60     looks for input that breaks a promise of the protocols, for so long (60 unless told otherwise)'
	@echo 'make diff FROM=1 TO=3    what changes in the code from one stage to another'
	@echo 'make tutorial-check      plays what the pages have one type, and holds their listings against the source; PAGE=README.md'
	@echo "make exercise-3-2        whether an exercise is solved; they stand at the end of each stage's README.md"
	@echo "make naive               the talk's server, flaws and all: stage1_sync/naive"
	@echo 'make lint, make format   checks the style, or restores it'
	@echo 'make clean               removes what was built'
	@echo 'VARIANT=release|debug|asan|tsan goes with what builds, runs or tests; other variants than release stand in build/'

# The unit tests have one thread, and nothing for ThreadSanitizer to find.
UNIT_TESTS := $(if $(filter tsan,$(VARIANT)),,$(BUILD)/unit_tests)
test: $(if $(SERVER),,$(PROGRAMS) $(UNIT_TESTS) $(FAULTS) $(if $(filter release,$(VARIANT)),$(BENCH)))
	@python3 tests/run.py $(if $(SERVER),--server '$(SERVER)',--variant $(VARIANT) $(UNIT_TESTS:%=--unit %)) $(TESTS)

browser: $(PROGRAMS)
	@$(if $(filter release,$(VARIANT)),,echo 'the page is tested with a release build' >&2; exit 2)
	@python3 tests/browser/run.py

bench: $(PROGRAMS) $(BENCH)
	@$(if $(filter release,$(VARIANT)),,echo 'a $(VARIANT) build is not measured' >&2; exit 2)
	@python3 tests/bench/bench.py $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick,--output tests/bench/RESULTS.md)

compare: TO ?= build/compare
compare: $(PROGRAMS) $(BENCH)
	@$(if $(filter release,$(VARIANT)),,echo 'a $(VARIANT) build is not measured' >&2; exit 2)
	@python3 tests/compare/compare.py $(if $(QUICK),--quick) --to '$(TO)'

# Both, unless VARIANT says which. Each is built by a make of its own, which takes nothing over from this one.
SOAKED := $(if $(filter file,$(origin VARIANT)),release asan,$(VARIANT))
soak:
	@$(foreach variant,$(SOAKED),MAKEFLAGS= $(MAKE) --no-print-directory VARIANT=$(variant) all && ) true
	@python3 tests/soak.py --variant $(SOAKED) $(SECONDS:%=--seconds %) $(if $(STAGE),--stage $(STAGE))

trace:
	@python3 tests/trace/record.py --load '$(LOAD)' $(CMD)

gallery: $(PROGRAMS)
	@python3 tests/trace/gallery.py

fuzz: SECONDS ?= 60
fuzz: $(BUILD)/session_fuzz
	@tests/fuzz/run $< $(SECONDS)

EXERCISES := $(patsubst tests/exercises/solutions/%.patch,exercise-%,$(wildcard tests/exercises/solutions/*.patch))
.PHONY: $(EXERCISES)
$(EXERCISES): exercise-%:
	@python3 tests/exercises/check.py $*

tutorial-check: $(PROGRAMS)
	@python3 tests/tutorial/check.py $(PAGE)

naive: stage1_sync/naive
stage1_sync/naive: stage1_sync/naive.cpp
	$(CXX) -std=c++20 -O2 -Wall -Wextra $< -o $@

diff:
	@test -n '$(FROM)' -a -n '$(TO)' || { echo 'usage: make diff FROM=1 TO=3' >&2; exit 2; }
	@ls -d stage$(FROM)_* stage$(TO)_* >/dev/null
	@diff -uN -x Makefile -x '*.md' -x naive.cpp -x 'stage?_*' -x naive $(wildcard stage$(FROM)_*) $(wildcard stage$(TO)_*) || true

clean:
	rm -rf build stage1_sync/naive $(foreach stage,$(STAGES),$(stage)/$(stage))

# What each is for is in the README. A system that has no apt-get is told the list.
BUILD_DEPS := g++ make pkg-config libfmt-dev libsqlite3-dev uuid-dev nlohmann-json3-dev libcli11-dev llhttp
TEST_DEPS := libgtest-dev python3 netcat-openbsd curl procps git diffutils
LINT_DEPS := clang-tidy clang-format shellcheck pyflakes3
FUZZ_DEPS := clang libclang-rt-dev llvm
AROUND_DEPS := nginx entr psmisc iproute2 strace chromium
COMPARE_DEPS := gnuplot-nox

deps:
	@.ci/deps $(BUILD_DEPS) $(TEST_DEPS)
deps-all:
	@.ci/deps $(BUILD_DEPS) $(TEST_DEPS) $(LINT_DEPS) $(FUZZ_DEPS) $(AROUND_DEPS) $(COMPARE_DEPS)

lint: $(patsubst %,build/lint/%.ok,$(filter-out tests/% %/naive.cpp,$(SOURCES)))
	clang-format --dry-run --Werror $(SOURCES) $(HEADERS)
	shellcheck .ci/run .ci/deps .ci/watch tests/fuzz/run
	pyflakes3 $(shell find tests -name '*.py')

build/lint/%.ok: % $(HEADERS) .clang-tidy
	@mkdir -p $(@D)
	clang-tidy --quiet --warnings-as-errors='*' $< -- -std=c++20 -Icommon $(LLHTTP_INCLUDE)
	@touch $@

format:
	clang-format -i $(SOURCES) $(HEADERS)
