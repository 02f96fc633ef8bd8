# One fib and ToDo server, six times. `make help` lists the commands.

STAGES := stage1_sync stage2_fork stage3_threads stage4_nonblocking stage5_epoll stage6_coroutines
VARIANT ?= $(if $(filter fuzz,$(MAKECMDGOALS)),fuzz,release)
BUILD := build/$(VARIANT)

# A server is built from the sources in its stage's directory, except the naive ones, and from all those in common/.
of_stage = $(patsubst %.cpp,$(BUILD)/%.o,$(filter-out $(NAIVE:=.cpp),$(wildcard $1/*.cpp $1/*/*.cpp)))
COMMON = $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard common/*/*.cpp)) $(LLHTTP) $(WRAPS)
# A naive server is one file: the bare technique, without common/.
NAIVE := $(patsubst %.cpp,%,$(wildcard stage*/naive*.cpp))
# Release servers are built into their stages' directories, those of the other variants into build/.
PLACE := $(if $(filter release,$(VARIANT)),,$(BUILD)/)
PROGRAMS := $(foreach stage,$(STAGES),$(PLACE)$(stage)/$(stage))

.PHONY: all help clean naive deps deps-all diff $(STAGES)
.DELETE_ON_ERROR:
#: make                     builds all six servers
all: $(PROGRAMS)

#: make stage3              builds one
#: make run3                builds and starts it; options: make run3 ARGS='--port 8080'
#: make watch3              rebuilds and restarts it whenever one of its sources changes, until Ctrl-C
#: make naive3              builds the bare technique, flaws and all: stage3_threads/naive, which serves on port 9999
define stage_rules
$(PLACE)$1/$1: $(call of_stage,$1) $(COMMON)
	@mkdir -p $$(@D)
	$$(CXX) $$(LDFLAGS) $$(filter-out $$(CLI),$$^) $$(filter $$(CLI),$$^) $$(LDLIBS) -o $$@

.PHONY: $2 $(2:stage%=run%) $(2:stage%=watch%) $(2:stage%=naive%)
$1 $2: $(PLACE)$1/$1
	@$$(if $$(INSIDE),:,echo 'cd $1 && ./$1   (or: make $(2:stage%=run%))')

$(2:stage%=run%): $(PLACE)$1/$1
	@exec ./$$< $$(ARGS)

$(2:stage%=watch%): | $(filter deps deps-all,$(MAKECMDGOALS))
	@exec .ci/watch $1 $(PLACE)$1/$1 $$(ARGS)

$(2:stage%=naive%): $(filter $1/%,$(NAIVE))
	@$$(if $$(INSIDE),:,echo 'cd $1 && ./naive')
endef

#: make naive               builds the bare techniques of all stages; stage 6 has naive_uring, too
naive: $(NAIVE)
stage6_coroutines/naive_uring: LIBURING := -luring
$(NAIVE): %: %.cpp
	@$(if $(LIBURING),pkg-config --exists liburing || { echo 'liburing is missing: make deps installs it' >&2; exit 1; })
	$(CXX) -std=c++20 -O2 -pthread -Wall -Wextra $< $(LIBURING) -o $@

# --- how it is compiled ------------------------------------------------------------------------------------------------

# As many jobs as there are processors, unless -j says otherwise.
ifeq ($(filter -j%,$(MAKEFLAGS)),)
  MAKEFLAGS += -j$(shell nproc)
endif

ifeq ($(VARIANT),release)
  OPTIMISE := -O2
  FORTIFY := -D_FORTIFY_SOURCE=2
else ifeq ($(VARIANT),debug)
  OPTIMISE := -O0
else ifeq ($(VARIANT),asan)
  OPTIMISE := -O1 -fno-omit-frame-pointer
  # The vptr check opens a pipe to look at an object, and reports a fault when descriptors are short.
  SANITIZE := -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all
else ifeq ($(VARIANT),tsan)
  OPTIMISE := -O1 -fno-omit-frame-pointer
  SANITIZE := -fsanitize=thread
else ifneq ($(VARIANT),fuzz)
  $(error VARIANT=$(VARIANT) is none of release, debug, asan, tsan)
endif

# The lines, for traces and reports. Values of variables, which take a fifth of the time to compile, are in VARIANT=debug.
DEBUG_INFO := $(if $(filter debug,$(VARIANT)),-g,-g1)
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wold-style-cast -Wnon-virtual-dtor -Wno-missing-field-initializers
HARDEN := -fstack-protector-strong -fPIE $(FORTIFY)
CPPFLAGS += -Icommon -MMD -MP
CXXFLAGS = -std=c++20 $(DEBUG_INFO) -pthread $(WARNINGS) $(HARDEN) $(OPTIMISE) $(SANITIZE)
LDFLAGS += -pthread -pie -Wl,-z,relro,-z,now $(SANITIZE)
# pkg-config runs only when LDLIBS is used, because `make deps` may have to install it first.
PACKAGES := fmt sqlite3 uuid
LDLIBS = $(shell pkg-config --libs $(PACKAGES)) $(LLHTTP_LIBS)

$(BUILD)/%.o: %.cpp Makefile tests/tools.mk
	@mkdir -p $(@D)
	$(CXX) $(CPPFLAGS) $(LLHTTP_INCLUDE) $(CXXFLAGS) -c $< -o $@

# The workload is the same in every variant. A sanitizer would slow it down up to tenfold, and has nothing to find in it.
$(BUILD)/common/base/fib.o: CXXFLAGS := -std=c++20 -O2 $(DEBUG_INFO) $(WARNINGS) $(HARDEN)

# These include CLI11, which is header-only. Optimising doubles the time to compile them, and their code runs only once.
# If several objects have the same function, the linker takes the first, so the objects that are not optimised come last.
CLI := $(filter-out $(BUILD)/stage1_sync/main.o,$(STAGES:%=$(BUILD)/%/main.o)) $(BUILD)/common/base/options.o
$(CLI): CXXFLAGS += -O0 -U_FORTIFY_SOURCE

# The object contains the whole page.
$(BUILD)/common/protocol/page.o: common/protocol/page.html

# llhttp: Debian 12 ships only its C sources, which `make deps` unpacks. If the system has the library, there is nothing to
# compile, and the objects are empty. Strict, because loose parsing accepts what other servers would read differently.
# -fexceptions, because exceptions of our callbacks pass through it.
LLHTTP := $(patsubst %,$(BUILD)/llhttp/%.o,llhttp api http)
LLHTTP_SOURCES = $(firstword $(wildcard /usr/share/llhttp /usr/local/share/llhttp))
LLHTTP_INCLUDE = $(if $(LLHTTP_SOURCES),-isystem $(LLHTTP_SOURCES:/llhttp=/include/llhttp))
LLHTTP_LIBS = $(if $(LLHTTP_SOURCES),,$(shell pkg-config --libs libllhttp))
$(LLHTTP): $(BUILD)/llhttp/%.o: Makefile
	@mkdir -p $(@D)
	@$(if $(LLHTTP_SOURCES)$(LLHTTP_LIBS),,echo 'llhttp is missing: make deps installs it' >&2; exit 1)
	$(CC) $(LLHTTP_INCLUDE) -DLLHTTP_STRICT_MODE=1 $(LLHTTP_SANITIZE) -O2 -g $(HARDEN) -fexceptions -c -o $@ -x c $(if $(LLHTTP_SOURCES),$(LLHTTP_SOURCES)/$*.c,/dev/null)

# --- other commands ------------------------------------------------------------------------------------------------------

#: make deps                installs what building, testing and the chapters need, from the system's packages
#: make deps-all            also installs linters, the fuzzer's clang, and tools around a server: nginx, entr, chromium, …
# common/README.md says what each is for. On a system without apt-get, this prints the list.
BUILD_DEPS := g++ make pkg-config libfmt-dev libsqlite3-dev uuid-dev nlohmann-json3-dev libcli11-dev llhttp liburing-dev
deps:
	@.ci/deps $(BUILD_DEPS) $(TEST_DEPS)
deps-all:
	@.ci/deps $(BUILD_DEPS) $(TEST_DEPS) $(LINT_DEPS) $(FUZZ_DEPS) $(AROUND_DEPS) $(COMPARE_DEPS)
# Compile nothing before deps has run.
ifneq ($(filter deps deps-all,$(MAKECMDGOALS)),)
$(COMMON) $(NAIVE) $(foreach stage,$(STAGES),$(call of_stage,$(stage))): | $(filter deps deps-all,$(MAKECMDGOALS))
endif

#: make diff FROM=1 TO=3    shows what changes in the code from one stage to another
diff:
	@test -n '$(FROM)' -a -n '$(TO)' || { echo 'usage: make diff FROM=1 TO=3' >&2; exit 2; }
	@ls -d stage$(FROM)_* stage$(TO)_* >/dev/null
	@diff -ruN -x Makefile -x '*.md' -x 'naive*' -x 'stage?_*' $(wildcard stage$(FROM)_*) $(wildcard stage$(TO)_*) || true

#: make clean               removes everything that was built
clean:
	rm -rf build $(NAIVE) $(foreach stage,$(STAGES),$(stage)/$(stage))

help:
	@sed -n 's/^#: //p' $(MAKEFILE_LIST)

include $(dir $(firstword $(MAKEFILE_LIST)))tests/tools.mk
$(foreach stage,$(STAGES),$(eval $(call stage_rules,$(stage),$(firstword $(subst _, ,$(stage))))))
-include $(wildcard $(BUILD)/*/*.d $(BUILD)/*/*/*.d)
