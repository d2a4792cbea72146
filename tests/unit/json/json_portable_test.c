/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of json_test and json_value_test once more with the code that machines without SSE2
 * run: the sources are taken in here, so that nothing of the archive's build is linked.
 */
#define SCAN_PORTABLE
#include "src/json/json.c"
#include "src/json/json_str.c"
#include "src/json/json_write.c"
#include "src/json/keys.c"
#include "src/json/scan.c"

#include "tests/unit/json/json_test.c"
#include "tests/unit/json/json_value_test.c"
