/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin: what operators and their tools ask: /healthz, /readyz, /metrics and /.
 */
#pragma once

struct call;

void admin_healthz(struct call *c); /* the process lives and has a worker free */
void admin_readyz(struct call *c);  /* the store answers, the engine has recovered */
void admin_metrics(struct call *c);
void admin_root(struct call *c);
