/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc: CRC-32C (Castagnoli; RFC 3720 appendix B.4), with the SSE 4.2 instruction where
 * the processor has it.  crc32c(0, "123456789", 9) == 0xe3069283; sums chain over pieces.
 */
#pragma once

#include "base/base.h"

uint32_t crc32c(uint32_t crc, const void *p, size_t n);
