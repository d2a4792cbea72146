/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process: what concerns the process as a whole: signals, limits, the heap, the service
 * manager.
 *
 * Threads: main, before any other thread is started (process_prepare), later main.
 */
#pragma once

#include "base/err.h"

/*
 * Ignores SIGPIPE and SIGXFSZ (their errno is answered instead), blocks SIGTERM, SIGINT
 * and SIGHUP for all threads to come and gives a signalfd(2) of them; raises the limit on
 * descriptors; keeps the heap small; forbids core dumps and other users' debuggers, since
 * keys are in memory.
 */
NODISCARD enum rc process_prepare(int *ret_signal_fd, struct err *e);

/* The next signal that came; 0: none. */
int process_signal(int signal_fd);
/* From here on SIGTERM and SIGINT end the process at once. */
void process_let_signals_kill(void);

/* Tells the service manager (systemd's $NOTIFY_SOCKET): "READY=1"; nothing without one.
 */
void process_notify(const char *state);
