/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commands: the entry of each command, as main() would be called: argv[0] is its name;
 * what comes back is an exit code (app/exit.h).
 */
#pragma once

int serve_main(int argc, char **argv);
int run_main(int argc, char **argv);
int check_main(int argc, char **argv);
int submit_main(int argc, char **argv);
int list_main(int argc, char **argv);
int show_main(int argc, char **argv);
int watch_main(int argc, char **argv);
int cancel_main(int argc, char **argv);
int pause_main(int argc, char **argv);
int resume_main(int argc, char **argv);
int results_main(int argc, char **argv);
int retry_main(int argc, char **argv);
int key_main(int argc, char **argv);
