/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32: the CRC-32 of zlib, gzip and PNG, not base/crc's CRC-32C: a test in any language
 * has it in its standard library and can check with it whose answer it got.
 *
 * Threads: any.  sim_crc32(0, "123456789", 9) == 0xcbf43926; sums chain over pieces.
 */
#pragma once

#include "base/base.h"

uint32_t sim_crc32(uint32_t crc, const void *p, size_t n);
