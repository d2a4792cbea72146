/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curlib: libcurl is started, with our memory, and its options are set.
 *
 * Threads: any.
 */
#pragma once

#include "base/base.h"

#include <curl/curl.h>

void curlib_start(void); /* once; more often does nothing */

/* Options that this libcurl has, with values that it takes, fail for one reason only. */
void curlib_must(CURLcode code, const char *option);

#define MUST_SET(easy, option, value)                                                    \
    curlib_must(curl_easy_setopt((easy), (option), (value)), #option)
