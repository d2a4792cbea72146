// SPDX-License-Identifier: Apache-2.0
// OpenAI's own Node SDK, unchanged, against the batchd at BATCHD_URL.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import OpenAI, { toFile } from 'openai';

const CHAT = '/v1/chat/completions';
const client = new OpenAI({ baseURL: `${process.env.BATCHD_URL}/v1`, apiKey: 'unused', maxRetries: 0 });

const line = (i) => JSON.stringify({
  custom_id: `c-${i}`, method: 'POST', url: CHAT,
  body: { model: 'sim-model', messages: [{ role: 'user', content: `line ${i}` }] },
}) + '\n';
const lines = (n) => Array.from({ length: n }, (_, i) => line(i)).join('');
const input = async (text) =>
  client.files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' });
const create = (id, more = {}) => client.batches.create({
  input_file_id: id, endpoint: CHAT, completion_window: '24h', ...more,
});

// Events of all tests, as they come in: an event that finds nobody is sent again seconds later.
const told = [];
const hook = http.createServer((request, response) => {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    told.push({ headers: request.headers, body: Buffer.concat(pieces).toString() });
    response.end();
  });
});
await new Promise((ready) => hook.listen(process.env.BATCHD_WEBHOOK_PORT, '127.0.0.1', ready));
hook.unref();

async function ended(id) {
  for (const end = Date.now() + 30000; Date.now() < end;) {
    const batch = await client.batches.retrieve(id);
    if (['completed', 'failed', 'expired', 'cancelled'].includes(batch.status)) return batch;
    await new Promise((wake) => setTimeout(wake, 20));
  }
  throw new Error(`${id} did not end`);
}

test('a whole round', async () => {
  const text = lines(25);
  const file = await input(text);
  assert.equal(file.purpose, 'batch');
  assert.equal(file.bytes, Buffer.byteLength(text));
  const batch = await create(file.id, { metadata: { job: 'nightly' } });
  assert.equal(batch.status, 'validating');
  const done = await ended(batch.id);
  assert.equal(done.status, 'completed');
  assert.deepEqual(done.request_counts, { total: 25, completed: 25, failed: 0 });
  assert.deepEqual(done.metadata, { job: 'nightly' });
  const content = await (await client.files.content(done.output_file_id)).text();
  const got = content.trimEnd().split('\n').map((x) => JSON.parse(x));
  assert.deepEqual(got.map((x) => x.custom_id), Array.from({ length: 25 }, (_, i) => `c-${i}`));
  for (const x of got) assert.equal(x.response.body.object, 'chat.completion');
});

test('a file stream of unknown length', async () => {
  const name = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'batchd-sdk-')), 'größe.jsonl');
  fs.writeFileSync(name, lines(2000));
  const file = await client.files.create({ file: fs.createReadStream(name), purpose: 'batch' });
  fs.rmSync(path.dirname(name), { recursive: true });
  assert.equal(file.filename, 'größe.jsonl');
  assert.equal(await (await client.files.content(file.id)).text(), lines(2000));
});

test('an upload in parts', async () => {
  const text = lines(1000);
  const bytes = Buffer.from(text);
  const upload = await client.uploads.create({
    filename: 'größe.jsonl', purpose: 'batch', bytes: bytes.length, mime_type: 'application/jsonl',
  });
  assert.equal(upload.status, 'pending');
  assert.equal(upload.file, null);
  const half = bytes.length >> 1;
  const [second, first] = await Promise.all([bytes.subarray(half), bytes.subarray(0, half)].map(
    async (x) => client.uploads.parts.create(upload.id, { data: await toFile(x, 'blob') })));
  assert.equal(first.object, 'upload.part');
  assert.equal(first.upload_id, upload.id);
  await assert.rejects(client.uploads.complete(upload.id, { part_ids: [first.id] }), OpenAI.BadRequestError);
  const done = await client.uploads.complete(upload.id, { part_ids: [first.id, second.id] });
  assert.equal(done.status, 'completed');
  assert.equal(done.file.filename, 'größe.jsonl');
  assert.equal(await (await client.files.content(done.file.id)).text(), text);
  assert.equal((await ended((await create(done.file.id)).id)).status, 'completed');
  await assert.rejects(client.uploads.cancel(upload.id), OpenAI.BadRequestError);
});

test('lists page on their own', async () => {
  const file = await input(lines(1));
  const made = [];
  for (let i = 0; i < 5; i++) made.push((await create(file.id)).id);
  const seen = [];
  for await (const batch of client.batches.list({ limit: 2 })) seen.push(batch.id);
  assert.deepEqual(seen.slice(0, 5), made.reverse());
  const files = [];
  for await (const x of client.files.list({ purpose: 'batch', limit: 2 })) files.push(x.id);
  assert.equal(files[0], file.id);
  assert.equal(new Set(files).size, files.length);
  for (const id of made) await ended(id);
});

test('cancel', async () => {
  const file = await input(lines(5000));
  const batch = await create(file.id);
  const now = await client.batches.cancel(batch.id);
  assert.ok(['cancelling', 'cancelled'].includes(now.status));
  assert.equal((await ended(batch.id)).status, 'cancelled');
});

test('a failed batch tells its lines', async () => {
  const batch = await ended((await create((await input(`${lines(1)}{nope\n`)).id)).id);
  assert.equal(batch.status, 'failed');
  assert.equal(batch.errors.data[0].code, 'invalid_json_line');
  assert.equal(batch.errors.data[0].line, 2);
});

test('errors become the exceptions of the SDK', async () => {
  await assert.rejects(client.batches.retrieve('batch_none'), OpenAI.NotFoundError);
  await assert.rejects(client.files.retrieve('file-none'), OpenAI.NotFoundError);
  await assert.rejects(create('file-x', { endpoint: '/v1/nothing' }), OpenAI.BadRequestError);
  const batch = await ended((await create((await input(lines(1))).id)).id);
  await assert.rejects(client.batches.cancel(batch.id, { maxRetries: 2 }), OpenAI.ConflictError);
});

test('delete', async () => {
  const file = await input(lines(1));
  const gone = await client.files.delete(file.id);
  assert.deepEqual(gone, { id: file.id, object: 'file', deleted: true });
  await assert.rejects(client.files.retrieve(file.id), OpenAI.NotFoundError);
});

test('retries with an idempotency key do no harm', async () => {
  const retrying = client.withOptions({ maxRetries: 2 });
  const file = await retrying.files.create({
    file: await toFile(Buffer.from(lines(3)), 'in.jsonl'), purpose: 'batch',
  });
  assert.equal((await retrying.files.retrieve(file.id)).id, file.id);
});

test('a create with one key makes one batch', async () => {
  const file = await input(lines(2));
  const params = { input_file_id: file.id, endpoint: CHAT, completion_window: '24h' };
  const key = { headers: { 'Idempotency-Key': `mine-${file.id}` } };
  const first = await client.batches.create(params, key);
  assert.equal((await client.batches.create(params, key)).id, first.id);
  await assert.rejects(client.batches.create({ ...params, metadata: { a: 'b' } }, key),
    OpenAI.UnprocessableEntityError);
  assert.notEqual((await client.batches.create(params)).id, first.id);
});

test('a batch that all lines of were answered cannot be retried', async () => {
  const batch = await ended((await create((await input(lines(2))).id)).id);
  await assert.rejects(client.post(`/batches/${batch.id}/retry`, { maxRetries: 2 }),
    OpenAI.ConflictError);
  const next = await client.batches.create({
    input_file_id: batch.input_file_id, endpoint: batch.endpoint, completion_window: '24h',
    continue_from: batch.id,
  });
  const both = await Promise.all([batch, await ended(next.id)].map(
    async (x) => (await client.files.content(x.output_file_id)).text()));
  assert.equal(both[1], both[0]);
});

test('webhooks are unwrapped', async () => {
  const secret = process.env.BATCHD_WEBHOOK_SECRET;
  const ends = {
    'batch.completed': (await create((await input(lines(2))).id)).id,
    'batch.failed': (await create((await input('{nope\n')).id)).id,
  };
  const of = (id) => told.find((x) => JSON.parse(x.body).data.id === id);
  for (const [type, id] of Object.entries(ends)) {
    for (const end = Date.now() + 30000; !of(id) && Date.now() < end;) {
      await new Promise((wake) => setTimeout(wake, 20));
    }
    const { headers, body } = of(id);
    const event = await client.webhooks.unwrap(body, headers, secret);
    assert.equal(event.type, type);
    assert.equal(event.object, 'event');
    assert.equal(event.id, headers['webhook-id']);
    await assert.rejects(client.webhooks.unwrap(`${body} `, headers, secret),
      OpenAI.InvalidWebhookSignatureError);
  }
});
