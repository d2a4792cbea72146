// SPDX-License-Identifier: Apache-2.0
// Every object that the API shows, as the types of the official Node SDK declare it: the compiler
// is given each as a literal of its type, so that a missing, an extra and a wrongly typed member
// are errors.  The API's null where a type says "optional" is what the real one sends, too; so
// null counts as not given.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const here = path.dirname(new URL(import.meta.url).pathname);
const types = {
  batch: 'OpenAI.Batches.Batch', file: 'OpenAI.Files.FileObject', upload: 'OpenAI.Uploads.Upload',
  'upload.part': 'OpenAI.Uploads.UploadPart', model: 'OpenAI.Models.Model',
  deleted: 'OpenAI.Files.FileDeleted',
};

const compile = (source) => {
  const file = path.join(here, 'objects_of_the_api.ts');
  fs.writeFileSync(file, source);
  return spawnSync(process.execPath, [path.join(here, 'node_modules/typescript/bin/tsc'), '--noEmit',
    '--skipLibCheck', '--strict', '--strictNullChecks', 'false', '--target', 'es2022', '--module',
    'nodenext', '--moduleResolution', 'nodenext', '--types', 'node', file], { cwd: here, encoding: 'utf8' });
};
const head = "import OpenAI from 'openai';\n";

test('every object in every state is of the type that the SDK declares', () => {
  const seen = JSON.parse(execFileSync('python3', ['-B', process.env.BATCHD_OBJECTS],
    { encoding: 'utf8', maxBuffer: 1 << 28 }));
  let source = head, n = 0;
  for (const [kind, type] of Object.entries(types)) {
    assert.ok(seen[kind].length > 0, `no ${kind} was collected`);
    for (const value of seen[kind]) source += `export const o${n++}: ${type} = ${JSON.stringify(value)};\n`;
  }
  const got = compile(source);
  assert.equal(got.status, 0, got.stdout + got.stderr);
});

test('the compiler would tell a missing, an extra and a wrong member', () => {
  const good = { id: 'm', object: 'model', created: 1, owned_by: 'x' };
  for (const [why, bad] of [['extra', { ...good, more: 1 }], ['wrong', { ...good, created: '1' }],
    ['missing', { id: 'm', object: 'model', created: 1 }]]) {
    const got = compile(`${head}export const o: OpenAI.Models.Model = ${JSON.stringify(bad)};\n`);
    assert.notEqual(got.status, 0, why);
    assert.match(got.stdout, /error TS/, why);
  }
});
