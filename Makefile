# smtpwitness - build, test, install.  `make help` lists the targets.
VERSION   := 0.1.0
BUILD     ?= build
PREFIX    ?= /usr/local
SYSCONFDIR ?= /etc
CC        ?= gcc
CLANG     ?= clang
PKGS      := libevent libevent_pthreads libsystemd libcap-ng
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
FUZZ_BIN  := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/fuzz/%)
obj        = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

.PHONY: all unit
all: $(BIN)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(LIB): $(call obj,$(LIB_SRC))
	@rm -f $@
	$(AR) rcs $@ $^

$(BIN): $(call obj,$(CLI_SRC)) $(LIB)
	$(CC) $(LDFLAGS) -pie $^ $(LDLIBS) -o $@

$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -o $@

unit: $(UNIT_BIN)
	@set -e; for test in $^; do echo "== $$test"; $$test; done

-include $(patsubst %.c,$(BUILD)/obj/%.d,$(LIB_SRC) $(CLI_SRC) $(UNIT_SRC))
