# smtpwitness - build, test, install. `make help` lists the targets; `make V=1` shows each command as it is.
VERSION    := 0.1.0
BUILD      ?= build
DESTDIR    ?=
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
CLANG      ?= clang
FUZZ_SECONDS ?= 10
ifeq ($(origin CC),default)
CC         := gcc
endif

PKGS      := libevent libevent_pthreads libsystemd libcap-ng libpcap libnetfilter_queue libmnl libseccomp
WARN      := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Werror
CPPFLAGS  += -I. -D_GNU_SOURCE -DSMTPWITNESS_VERSION='"$(VERSION)"' $(shell pkg-config --cflags $(PKGS))
CFLAGS    ?= -O2 -g
HARDEN    := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
ifdef SANITIZE
BUILD     := build/sanitize
CFLAGS    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
HARDEN    :=
LDFLAGS   += -fsanitize=address,undefined
endif
CFLAGS    += -std=c11 -pthread $(WARN) $(HARDEN)
LDFLAGS   += -pthread
LDLIBS    += $(shell pkg-config --libs $(PKGS)) -liniparser

LIB_SRC   := $(sort $(wildcard core/*/*.c conf/*.c daemon/*.c proxy/*.c nfq/*.c replay/*.c))
CLI_SRC   := $(sort $(wildcard cli/*.c))
UNIT_SRC  := $(sort $(wildcard tests/unit/test_*.c))
FUZZ_SRC  := $(sort $(wildcard tests/fuzz/fuzz_*.c))
LIB       := $(BUILD)/libsmtpwitness.a
BIN       := $(BUILD)/smtpwitness
UNIT_BIN  := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)
FUZZ_BIN  := $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/%)
obj        = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
say        = $(if $(V),,@$(if $(findstring s,$(firstword -$(MAKEFLAGS))),,echo '  $(1)';))

.PHONY: all help unit sanitize clang lint analyze format fuzz cli-check rules-check proxy-check nfq-check captures-check roots scenarios scenario matrix control \
        units-check systemd-check check check-fast demo bench bench-smoke generate install uninstall deb clean
.SECONDARY:

all: $(BIN)                ## build the program (the default)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC    $@)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(LIB): $(call obj,$(LIB_SRC))
	@rm -f $@
	$(call say,AR    $@)$(AR) rcs $@ $^

$(BIN): $(call obj,$(CLI_SRC)) $(LIB)
	$(call say,LINK  $@)$(CC) $(LDFLAGS) -pie $^ $(LDLIBS) -o $@

$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK  $@)$(CC) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -o $@

# Fuzz targets are built from sources, because the whole library must carry the fuzzer's counters.
build/fuzz/lib/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC    $@)$(CLANG) $(CPPFLAGS) -std=c11 -pthread -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
	    -fno-sanitize-recover=all -MMD -MP -c $< -o $@

build/fuzz/%: build/fuzz/lib/tests/fuzz/%.o $(LIB_SRC:%.c=build/fuzz/lib/%.o)
	$(call say,LINK  $@)$(CLANG) -pthread -fsanitize=fuzzer,address,undefined $^ $(LDLIBS) -o $@

unit: $(UNIT_BIN)          ## unit tests
	@tests/lib/unit.sh $^

sanitize:                  ## unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory SANITIZE=1 unit

clang:                     ## everything compiles with clang too
	@$(MAKE) --no-print-directory CC=$(CLANG) BUILD=build/clang all

lint: $(BIN)               ## format, cppcheck, clang-tidy, shellcheck, includes, manuals
	@CPPFLAGS="$(CPPFLAGS)" tests/lint/run.sh

analyze:                   ## clang's static analyser, some minutes
	@CPPFLAGS="$(CPPFLAGS)" tests/lint/run.sh analyze

format:                    ## put the sources into the project's format
	clang-format -i $(shell git ls-files --cached --others --exclude-standard '*.c' '*.h')

fuzz: $(FUZZ_BIN)          ## every fuzz target for FUZZ_SECONDS (10)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/lib/fuzz.sh $^

cli-check: $(BIN)          ## arguments, exit codes, reload, signals
	@tests/cli/run.sh

rules-check:               ## the packet filter rules, in network namespaces (root)
	@tests/rules/run.sh

proxy-check: $(BIN)        ## the relay by itself, in network namespaces (root)
	@tests/proxy/run.sh

$(BUILD)/captures/properties: $(BUILD)/obj/tests/captures/properties.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK  $@)$(CC) $(LDFLAGS) $^ $(LDLIBS) -o $@

captures-check: $(BIN) $(BUILD)/captures/properties ## capture files through replay: built, damaged, in every envelope
	@tests/captures/run $(BIN) $(BUILD)/captures/properties

nfq-check: $(BIN)          ## the packet hook by itself, in network namespaces (root)
	@tests/nfq/run.sh

roots:                     ## the small Debian roots the scenarios start mail servers from (root)
	@tests/mta/make_roots.sh

build/peers/delayer: tests/peers/delayer.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -pie $(filter %.c,$^) $(LDLIBS) -o $@

scenarios: $(BIN) build/peers/delayer roots ## whole sessions with real mail servers, in network namespaces (root)
	@tests/scenarios/test_expectations.py
	@tests/scenarios/run.py --ci

scenario: $(BIN) build/peers/delayer roots ## make scenario FILE=...: one scenario file, or every one of a directory, in every way (root)
	@tests/scenarios/run.py $(FILE)

matrix: $(BIN) build/peers/delayer roots ## every fault in every way of seeing, written to tests/scenarios/MATRIX.md (root)
	@tests/scenarios/run.py --matrix tests/scenarios/MATRIX.md

control: $(BIN) build/peers/delayer roots ## the control group: sessions in which nobody is at fault, and nobody may be accused (root)
	@tests/scenarios/run.py --control

units-check: $(BIN)        ## install, uninstall, the units' soundness and exposure, completion
	@tests/systemd/units.sh

systemd-check:             ## the Debian package on a router that boots systemd, three minutes (root)
	@tests/systemd/run.sh

check-fast:                ## unit tests and lint: before every commit
	@tests/lib/check.sh unit lint

check:                     ## everything; what CI runs (root)
	@tests/lib/check.sh unit lint clang sanitize fuzz cli-check rules-check proxy-check nfq-check captures-check units-check \
	    bench-smoke scenarios

demo: $(BIN)               ## see it work: a router, two mail servers, a fault, its verdict (root)
	@tests/demo/demo.sh

build/bench/smtpload: $(wildcard tests/bench/smtpload*.c) tests/bench/smtpload.h Makefile
	@mkdir -p $(@D)
	$(call say,LINK  $@)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -pie $(filter %.c,$^) -o $@

build/bench/nfqueue_floor: tests/bench/nfqueue_floor.c Makefile
	@mkdir -p $(@D)
	$(call say,LINK  $@)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -pie $(filter %.c,$^) $(LDLIBS) -o $@

bench: $(BIN) build/bench/smtpload build/bench/nfqueue_floor ## speed beside plain forwarding, HAProxy, a bare queue and Suricata (root)
	@tests/bench/run.py

bench-smoke: $(BIN) build/bench/smtpload build/bench/nfqueue_floor ## the same, one short round: does all mail pass (root)
	@BENCH_QUICK=1 tests/bench/run.py

generate: $(BIN) $(BUILD)/unit/test_causes ## rewrite the sample and the manuals that come from tables
	$(BIN) --print-sample >conf/smtpwitness.conf.sample
	$(BIN) --print-manual >man/smtpwitness.conf.5
	$(BUILD)/unit/test_causes --print >man/smtpwitness-verdicts.7

install: $(BIN)            ## install below DESTDIR/PREFIX; an existing configuration is kept
	tests/lib/install.sh install "$(BIN)" "$(DESTDIR)" "$(PREFIX)" "$(SYSCONFDIR)" "$(UNITDIR)"

uninstall:                 ## remove what install put there, not the configuration
	tests/lib/install.sh uninstall "$(BIN)" "$(DESTDIR)" "$(PREFIX)" "$(SYSCONFDIR)" "$(UNITDIR)"

deb:                       ## a Debian package in build/deb; the sources stay as they are
	@tests/lib/deb.sh "$(VERSION)"

clean:                     ## remove build/ but not the mail servers' roots
	@mkdir -p build
	find build -mindepth 1 -maxdepth 1 ! -name roots -exec rm -rf --one-file-system {} +

help:                      ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

-include $(patsubst %.c,$(BUILD)/obj/%.d,$(LIB_SRC) $(CLI_SRC) $(UNIT_SRC)) $(patsubst %.c,build/fuzz/lib/%.d,$(LIB_SRC))
