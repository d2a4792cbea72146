/* SPDX-License-Identifier: Apache-2.0 */
/*
 * version: what `batchd --version` says; one place for all.
 */
#pragma once

#define BATCHD_VERSION "0.1.0"
