# The targets that test, measure, draw and check the servers. The Makefile includes this file.

.PHONY: test browser bench compare soak trace gallery fuzz tutorial-check lint format

# --- what these targets build --------------------------------------------------------------------------------------------

UNIT := $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard tests/unit/*.cpp))
# The benchmark's load generator and its two references.
BENCH := $(patsubst tests/bench/%.cpp,$(BUILD)/bench/%,$(wildcard tests/bench/*.cpp))
# Makes calls fail on demand: allocations, too, except under ThreadSanitizer, which has an allocator of its own.
FAULTS := $(if $(filter tsan,$(VARIANT)),$(BUILD),build)/faults.so
TESTS_OBJECTS := $(UNIT) $(BENCH:$(BUILD)/bench/%=$(BUILD)/tests/bench/%.o) $(BUILD)/tests/fuzz/session_fuzz.o
TEST_DEPS := libgtest-dev python3 netcat-openbsd curl procps git diffutils psmisc iproute2 strace manpages-dev
LINT_DEPS := clang-tidy clang-format shellcheck pyflakes3
FUZZ_DEPS := clang libclang-rt-dev llvm
AROUND_DEPS := nginx entr chromium
COMPARE_DEPS := gnuplot-nox
ifneq ($(filter deps deps-all,$(MAKECMDGOALS)),)
$(TESTS_OBJECTS) $(FAULTS): | $(filter deps deps-all,$(MAKECMDGOALS))
endif

ifeq ($(VARIANT),fuzz)
  # libFuzzer is part of clang.
  CC := clang
  CXX := clang++
  OPTIMISE := -O1 -fno-omit-frame-pointer
  SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
  LLHTTP_SANITIZE := $(SANITIZE)
else ifeq ($(VARIANT),tsan)
  # GCC's ThreadSanitizer does not deliver signals while these calls block. The wrappers wait in poll(2), where it does.
  WRAPS := $(BUILD)/tests/harness/tsan.o
  LDFLAGS += -Wl,--wrap=accept4 -Wl,--wrap=recv -Wl,--wrap=send -Wl,--wrap=epoll_wait
endif

$(BUILD)/tests/harness/tsan.o: tests/harness/tsan.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -Wall -Wextra -Wshadow -O2 -g -fPIE -c $< -o $@

# The tests' own code takes longer to optimise than to run, so it isn't optimised. _FORTIFY_SOURCE needs optimised code.
$(UNIT): CXXFLAGS += -O0 -U_FORTIFY_SOURCE
# The unit tests replay the inputs in this directory, but run in another one.
$(BUILD)/tests/unit/fuzz_test.o: CPPFLAGS += -DFUZZ_FOLDER='"$(CURDIR)/tests/fuzz"'
$(BUILD)/unit_tests: $(UNIT) $(COMMON)
	$(CXX) $(LDFLAGS) $^ $(LDLIBS) -lgtest -lgtest_main -o $@

# Replaces functions of the C library in a server under test (LD_PRELOAD), so _FORTIFY_SOURCE must not make these inline.
$(FAULTS): tests/harness/faults.c Makefile
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -Wall -Wextra -Wshadow -O2 -g -U_FORTIFY_SOURCE $(if $(filter tsan,$(VARIANT)),-DWITHOUT_MEMORY) \
	    -shared -fPIC $< -o $@ -ldl

$(BENCH): $(BUILD)/bench/%: $(BUILD)/tests/bench/%.o
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS) $^ -lfmt -o $@

$(BUILD)/session_fuzz: $(BUILD)/tests/fuzz/session_fuzz.o $(COMMON)
	$(CXX) $(LDFLAGS) -fsanitize=fuzzer $^ $(LDLIBS) -lgtest -o $@

# --- commands ------------------------------------------------------------------------------------------------------------

#: make test                builds what is missing and runs the tests; ends with: N passed, N failed
#: make test SERVER='python3 theirs.py {port}'
#:                          shows which parts of the protocols your own server keeps
# The unit tests have one thread, so ThreadSanitizer can find nothing in them.
UNIT_TESTS := $(if $(filter tsan,$(VARIANT)),,$(BUILD)/unit_tests)
test: $(if $(SERVER),,$(PROGRAMS) $(UNIT_TESTS) $(FAULTS) $(if $(filter release,$(VARIANT)),$(BENCH)))
	@python3 tests/run.py $(if $(SERVER),--server '$(SERVER)',--variant $(VARIANT) $(UNIT_TESTS:%=--unit %)) $(TESTS)

#: make browser             tests the page of all six servers in a headless Chromium; ends with: N passed, N failed
browser: $(PROGRAMS)
	@$(if $(filter release,$(VARIANT)),,echo 'the page is tested with a release build' >&2; exit 2)
	@python3 tests/browser/run.py

#: make bench               measures how fast the servers, two references and peers are: tests/bench/RESULTS.md;
#:                          QUICK=1 takes a third of the time; ONLY='costs memory'; STAGE='5 6': only these, and no peers;
#:                          with QUICK or STAGE it writes to the terminal
bench: $(PROGRAMS) $(BENCH)
	@$(if $(filter release,$(VARIANT)),,echo 'a $(VARIANT) build is not measured' >&2; exit 2)
	@python3 tests/bench/bench.py $(if $(ONLY),--only $(ONLY)) $(if $(STAGE),--stage $(STAGE)) $(if $(QUICK),--quick) \
		$(if $(QUICK)$(STAGE),,--output tests/bench/RESULTS.md)

#: make compare             runs the same experiments on every technique; the plots and a page: build/compare/report.html;
#:                          takes at most ten minutes, with QUICK=1 two; TO=DIRECTORY puts the results elsewhere
compare: TO ?= build/compare
compare: $(PROGRAMS) $(BENCH)
	@$(if $(filter release,$(VARIANT)),,echo 'a $(VARIANT) build is not measured' >&2; exit 2)
	@python3 tests/compare/compare.py $(if $(QUICK),--quick) --to '$(TO)'

#: make soak                puts a mixed load on each technique, in release and asan; SECONDS=60 STAGE=5 VARIANT=asan
#:                          AT_ONCE=8: eight techniques at the same time
# Both variants, unless VARIANT names one. A make of its own builds each, and inherits nothing from this one.
SOAKED := $(if $(filter file,$(origin VARIANT)),release asan,$(VARIANT))
soak:
	@$(foreach variant,$(SOAKED),MAKEFLAGS= $(MAKE) --no-print-directory VARIANT=$(variant) all && ) true
	@python3 tests/soak.py --variant $(SOAKED) $(SECONDS:%=--seconds %) $(if $(STAGE),--stage $(STAGE)) $(AT_ONCE:%=--at-once %)

#: make trace3              shows with strace what stage 3 does with a few clients; LOAD='sleep 1, fib 42', LOAD=mine
#: make trace CMD='gunicorn app:app'
#:                          shows what any other server does
trace:
	@python3 tests/trace/record.py --load '$(LOAD)' $(CMD)
define trace_rule
.PHONY: $(2:stage%=trace%)
$(2:stage%=trace%): $(PLACE)$1/$1
	@python3 tests/trace/record.py --ours --load '$$(LOAD)' $$< $$(ARGS)
endef
$(foreach stage,$(STAGES),$(eval $(call trace_rule,$(stage),$(firstword $(subst _, ,$(stage))))))

#: make gallery             traces the six stages, gunicorn and Node (if installed), and shows them side by side on one page
gallery: $(PROGRAMS)
	@python3 tests/trace/gallery.py

#: make fuzz SECONDS=60     looks for input that breaks a promise of the protocols, for 60 seconds (the default)
fuzz: SECONDS ?= 60
fuzz: $(BUILD)/session_fuzz
	@tests/fuzz/run $< $(SECONDS)

#: make tutorial-check      replays the commands on the pages and compares their listings to the source; PAGE=README.md;
#:                          PAUSE=5 types like a person: five seconds before each line
tutorial-check: $(PROGRAMS)
	@python3 tests/tutorial/check.py $(PAGE)

#: make exercise-3-2        checks whether you solved an exercise; the exercises end each stage's README.md
#: make hint-3-2            gives you a hint
EXERCISES := $(patsubst tests/exercises/solutions/%.patch,%,$(wildcard tests/exercises/solutions/*.patch))
.PHONY: $(EXERCISES:%=exercise-%) $(EXERCISES:%=hint-%)
$(EXERCISES:%=exercise-%): exercise-%:
	@python3 tests/exercises/check.py $*
$(EXERCISES:%=hint-%): hint-%:
	@python3 tests/exercises/check.py --hint $*

#: make lint, make format   checks the style; corrects it
SOURCES := $(wildcard common/*/*.cpp stage*/*.cpp stage*/*/*.cpp tests/unit/*.cpp tests/fuzz/*.cpp tests/bench/*.cpp)
HEADERS := $(wildcard common/*/*.hpp stage*/*.hpp stage*/*/*.hpp tests/unit/*.hpp tests/fuzz/*.hpp)
lint: $(patsubst %,build/lint/%.ok,$(filter-out tests/% $(NAIVE:=.cpp),$(SOURCES)))
	clang-format --dry-run --Werror $(SOURCES) $(HEADERS)
	shellcheck .ci/run .ci/deps .ci/watch tests/fuzz/run
	pyflakes3 $(shell find tests -name '*.py')

build/lint/%.ok: % $(HEADERS) .clang-tidy
	@mkdir -p $(@D)
	clang-tidy --quiet --warnings-as-errors='*' $< -- -std=c++20 -Icommon $(LLHTTP_INCLUDE)
	@touch $@

format:
	clang-format -i $(SOURCES) $(HEADERS)

#: VARIANT=release|debug|asan|tsan goes with any command that builds, runs or tests; all but release are built into build/
