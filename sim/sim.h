/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim: an inference server to try things on (`batchd sim`): the OpenAI endpoints that
 * batches name, answers that prove which request they belong to, and every way in which
 * a server can fail, chosen by a seed so that a run can be repeated.
 *
 * Owns:    everything it starts.  Threads: one.
 */
#pragma once

/* argv[0] is the command's name ("sim").  Returns the exit status: 0 after SIGTERM or
 * SIGINT, 1 when it cannot serve, 2 when a flag is wrong. */
int sim_main(int argc, char **argv);
