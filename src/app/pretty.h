/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pretty: JSON for people, token by token: numbers and strings stay byte for byte what
 * they were.  Pure.
 */
#pragma once

#include "base/buf.h"

/* Appends valid JSON text with two spaces of indent and a line feed at its end. */
void pretty_json(struct str json, struct buf *out);
