# batchd: the whole build.  make [V=release|debug|asan|tsan|cov|fuzz] [CC=gcc|clang] [WERROR=1]
#
# Each variant lives in build/$(V); `make` leaves the program at build/batchd.
V      ?= release
WERROR ?= 0
PREFIX ?= /usr/local
B      := build/$(V)

PKGS := libmicrohttpd libcurl sqlite3 libcrypto libxxhash zlib libzstd
# libinih has no pkg-config name that all of Debian and Ubuntu agree on.
LIBS := $(shell pkg-config --libs $(PKGS)) -linih -lpthread -lm

WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wformat=2 \
        -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wpointer-arith \
        -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wswitch-enum -Wimplicit-fallthrough
ifeq ($(WERROR),1)
WARN += -Werror
endif

HARDEN := -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2
OPT_release := -O2 -g -fPIE $(HARDEN)
OPT_debug   := -O0 -g3 -fPIE
OPT_asan    := -O1 -g -fPIE -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
OPT_tsan    := -O1 -g -fPIE -fsanitize=thread
OPT_cov     := -O0 -g --coverage
OPT_fuzz    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link \
               -fno-sanitize-recover=all
LD_release := -pie -Wl,-z,relro,-z,now
LD_debug   := -pie
LD_asan    := -pie -fsanitize=address,undefined
LD_tsan    := -pie -fsanitize=thread
LD_cov     := --coverage
LD_fuzz    := -fsanitize=address,undefined
ifeq ($(V),fuzz)
CC := clang-14
endif
ifeq ($(OPT_$(V)),)
$(error unknown variant V=$(V); use release, debug, asan, tsan, cov or fuzz)
endif

CPPFLAGS += -D_GNU_SOURCE -Isrc -I. $(shell pkg-config --cflags $(PKGS))
CFLAGS   ?=
ALL_CFLAGS := -std=gnu17 $(OPT_$(V)) $(WARN) $(CFLAGS)

SRC  := $(filter-out src/app/main.c,$(wildcard src/*/*.c)) $(wildcard sim/*.c)
OBJ  := $(SRC:%.c=$(B)/%.o)
MAIN := $(B)/src/app/main.o

TEST_SRC := $(wildcard tests/unit/*/*_test.c tests/model/*_test.c tests/fault/*_test.c)
TEST_BIN := $(TEST_SRC:tests/%.c=$(B)/tests/%)
FUZZ_BIN := $(patsubst fuzz/%.c,$(B)/fuzz/%,$(wildcard fuzz/fuzz_*.c))
BENCH_BIN := $(patsubst bench/%.c,$(B)/bench/%,$(wildcard bench/*.c))

.PHONY: all check crash des show-commands faults sim fuzzers benches lint format clean install tests
all: $(B)/batchd
ifeq ($(V),release)
all: build/batchd
endif

build/batchd: build/release/batchd
	ln -sf release/batchd $@

$(B)/batchd: $(MAIN) $(B)/libbatchd.a
	$(CC) $(LD_$(V)) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/libbatchd.a: $(OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# A unit test may wrap system calls: a line `/* link: -Wl,--wrap=write */` in its source.
$(TEST_BIN): $(B)/tests/%: $(B)/tests/%.o $(B)/tests/lib/t.o $(B)/libbatchd.a
	$(CC) $(LD_$(V)) $(LDFLAGS) $(shell sed -n 's|^/\* link: \(.*\) \*/$$|\1|p' tests/$*.c) -o $@ $^ $(LIBS)

$(BENCH_BIN): $(B)/bench/%: $(B)/bench/%.o $(B)/libbatchd.a
	$(CC) $(LD_$(V)) $(LDFLAGS) -o $@ $^ $(LIBS)

# The crash explorer, and the recorder that the program under test is preloaded with.
CRASH_OBJ := $(patsubst %.c,$(B)/%.o,$(filter-out tests/crash/recorder.c,$(wildcard tests/crash/*.c)))
$(B)/tests/crash/explore: $(CRASH_OBJ) $(B)/libbatchd.a
	$(CC) $(LD_$(V)) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/tests/crash/recorder.so: tests/crash/recorder.c tests/crash/trace.h Makefile
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -I. -std=gnu17 -O1 -g $(WARN) -shared -fPIC -o $@ $< -ldl
crash: $(B)/tests/crash/explore $(B)/tests/crash/recorder.so
# For tests/crash/mutants, which compiles single files anew.
show-commands:
	@echo '$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -O1'
	@echo '$(CC) $(LD_$(V)) $(LDFLAGS)'
	@echo '$(LIBS)'

# What makes system calls fail in a program that is preloaded with it.
$(B)/tests/faults/%.so: tests/faults/%.c $(wildcard tests/faults/*.h) Makefile
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -I. -std=gnu17 -O1 -g $(WARN) -shared -fPIC -o $@ $< -ldl
faults: $(patsubst %.c,$(B)/%.so,$(wildcard tests/faults/*.c))

# Simulated runs: the objects of the engine and of what it is made of, over fakes of what lies
# below: time, threads, memory, disk and network.
SIM_REAL := $(wildcard src/engine/*.c src/sched/*.c src/core/*.c src/json/*.c src/store/reslog*.c) \
            src/store/index.c src/store/store.c \
            $(addprefix src/base/,base.c buf.c crc.c err.c id.c list.c log.c map.c str.c wall.c)
SIM_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard $(SIM_REAL)) $(wildcard tests/sim/*.c))
SIM_WRAP := getrandom log_ev opendir readdir closedir board_set reslog_create reslog_open \
            $(addprefix pthread_,create join mutex_init mutex_destroy mutex_lock mutex_unlock \
            cond_init cond_destroy cond_wait cond_signal cond_broadcast)
$(B)/tests/sim/simulate: $(SIM_OBJ)
	$(CC) $(LD_$(V)) $(LDFLAGS) $(SIM_WRAP:%=-Wl,--wrap=%) -o $@ $^ $(LIBS)
sim: $(B)/tests/sim/simulate

# The scheduler and the model of a server in virtual time: the objects of the program.
DES_OBJ := $(patsubst %.c,$(B)/%.o,$(filter-out tests/des/replay.c,$(wildcard tests/des/*.c)))
$(B)/tests/des/des: $(DES_OBJ) $(B)/libbatchd.a
	$(CC) $(LD_$(V)) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/tests/des/replay: $(B)/tests/des/replay.o $(B)/libbatchd.a
	$(CC) $(LD_$(V)) $(LDFLAGS) -o $@ $^ $(LIBS)
des: $(B)/tests/des/des $(B)/tests/des/replay

# The same with a bug in it: sources that tests/sim/mutants changed take the place of ours.
MUTANT_SRC := $(if $(MUTANT),$(shell cd $(B)/mutants/$(MUTANT) && find src -name '*.c'))
$(B)/mutants/$(MUTANT)/simulate: $(filter-out $(MUTANT_SRC:%.c=$(B)/%.o),$(SIM_OBJ)) \
                                 $(MUTANT_SRC:%.c=$(B)/mutants/$(MUTANT)/%.o)
	$(CC) $(LD_$(V)) $(LDFLAGS) $(SIM_WRAP:%=-Wl,--wrap=%) -o $@ $^ $(LIBS)
$(B)/mutants/%.o: $(B)/mutants/%.c
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -w -c -o $@ $<

$(B)/fuzz/fuzz_%: $(B)/fuzz/fuzz_%.o $(B)/libbatchd.a
	$(CC) $(LD_$(V)) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(LIBS)

tests: $(TEST_BIN) faults
fuzzers: $(FUZZ_BIN)
benches: $(BENCH_BIN)

# TAP by our own harness (tests/lib/t.h), totals by prove.
check: tests
	prove -j2 --exec '' $(TEST_BIN)

lint:
	tools/lint

format:
	clang-format-14 -i $(shell git ls-files '*.c' '*.h')

install: $(B)/batchd
	install -D -m 755 $(B)/batchd $(DESTDIR)$(PREFIX)/bin/batchd
	for p in docs/man/*.[1-8]; do \
	    install -D -m 644 $$p $(DESTDIR)$(PREFIX)/share/man/man$${p##*.}/$${p##*/}; done

clean:
	rm -rf build

-include $(OBJ:.o=.d) $(MAIN:.o=.d) $(TEST_BIN:=.d) $(FUZZ_BIN:=.d) $(BENCH_BIN:=.d) $(CRASH_OBJ:.o=.d) $(SIM_OBJ:.o=.d) $(DES_OBJ:.o=.d)
.SECONDARY:
