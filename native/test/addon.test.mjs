// The addon as JavaScript sees it: the contract of src/engine/addon.ts, misuse, disposal, garbage collection, shutdown.
// Run by `make check` with --expose-gc; LONGLIVE_TEST_PACKAGE names a package made by build/make_package,
// LONGLIVE_TEST_ADDON another addon than build/longlive.node.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

const addonPath = process.env.LONGLIVE_TEST_ADDON ?? fileURLToPath(new URL('../build/longlive.node', import.meta.url));
const addon = createRequire(import.meta.url)(addonPath);
const directory = process.env.LONGLIVE_TEST_PACKAGE;
const load = { directory, device: 'cpu', precision: 'bf16', threads: 1, decoder: 'full', isa: '' };
const session = { seed: 7n, width: 64, height: 48, rope: 'package' };
const ids = Int32Array.of(3, 4, 1);

const refusedWith = (code, message) => (error) => {
  assert.ok(error instanceof Error);
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return true;
};

async function block(s) {
  const steps = [];
  do steps.push(await s.step());
  while (steps.at(-1).kind !== 'context');
  return steps;
}

test('devices and version', () => {
  assert.match(addon.version, /^\d+\.\d+\.\d+$/);
  assert.equal(typeof addon.cudaBuilt, 'boolean');
  const [cpu, cuda] = addon.devices();
  assert.equal(cpu.device, 'cpu');
  assert.equal(cpu.available, true);
  assert.ok(cpu.totalMemory > 0 && cpu.threads > 0 && cpu.isa && cpu.detail);
  assert.equal(cuda.device, 'cuda');
  assert.deepEqual([cpu.index, cuda.index, cpu.refusedRecordings], [0, 0, 0]);
});

test('a device that is not there is refused', async () => {
  await assert.rejects(addon.loadModel({ ...load, deviceIndex: 1 }), refusedWith('INVALID_ARGUMENT', /no CPU device 1/));
  await assert.rejects(addon.loadModel({ ...load, deviceIndex: -1 }), refusedWith('INVALID_ARGUMENT', /deviceIndex must be an integer/));
  if (!addon.devices().some(({ device, available }) => device === 'cuda' && available))
    await assert.rejects(addon.loadModel({ ...load, device: 'cuda', deviceIndex: 1 }), refusedWith('UNAVAILABLE', /CUDA/));
  const model = await addon.loadModel({ ...load, deviceIndex: 0 });
  assert.equal(model.refusedRecordings, 0);
  model.dispose();
  assert.equal(model.refusedRecordings, 0);
});

test('a product is added in place, and its operands are checked', async () => {
  const values = Float32Array.of(1, 2, 3, 4, 5, 6);
  const b = Float64Array.of(1, 10, -1, 0.5);
  const a = Float32Array.of(1, 2, 3, 0.5, 0.25, 0.125);
  assert.equal(await addon.addProduct(values, b, a, 2), undefined);
  assert.deepEqual([...values], [7, 6.5, 7.25, 3.25, 3.125, 3.0625]);
  await assert.rejects(addon.addProduct(values, b, a, 3), refusedWith('INVALID_ARGUMENT', /rank 3/));
  await assert.rejects(addon.addProduct(values, a, a, 2), refusedWith('INVALID_ARGUMENT', /b must be a Float64Array/));
  await assert.rejects(addon.addProduct(values, b, a), refusedWith('INVALID_ARGUMENT', /rank must be an integer/));
});

test('a session steps through blocks, switches, and goes on from a checkpoint', async () => {
  const model = await addon.loadModel(load);
  assert.equal(model.config.video.width, 64);
  assert.ok(model.weightBytes > 0);
  const prompt = await model.encodePrompt(ids);
  assert.equal(prompt.tokens, 3);
  const s = await model.createSession(session);
  assert.equal(s.block, 0);
  assert.ok(s.memoryBytes > 0);
  assert.deepEqual(Object.keys(await s.setPrompt(prompt, 'recache')), ['milliseconds', 'frames']);
  const first = await block(s);
  assert.deepEqual(first.map((x) => x.kind), ['denoise', 'denoise', 'denoise', 'denoise', 'frames', 'context']);
  const { frames } = first[4];
  assert.equal(frames.firstFrame, 0);
  assert.equal(frames.i420.length, (frames.count * 64 * 48 * 3) / 2);
  assert.equal((await s.lastRgb()).length, frames.count * 64 * 48 * 3);
  assert.equal(s.block, 1);
  await s.step();
  await assert.rejects(s.checkpoint(), refusedWith('INVALID_ARGUMENT', /between blocks/));
  await s.abandonBlock();
  assert.equal((await s.setPrompt(await model.encodePrompt(Int32Array.of(9, 1)), 'recache')).frames, 2);
  const saved = await s.checkpoint();
  assert.ok(saved instanceof Uint8Array);
  const restored = await model.restoreSession(session, saved, prompt);
  assert.equal(restored.block, 1);
  assert.equal((await block(restored))[4].frames.firstFrame, frames.count);
});

test('arguments are refused by name', async () => {
  const model = await addon.loadModel(load);
  const prompt = await model.encodePrompt(ids);
  const s = await model.createSession(session);
  const refuses = (promise, message, code = 'INVALID_ARGUMENT') => assert.rejects(promise, refusedWith(code, message));
  const bad = (change, message) => refuses(model.createSession({ ...session, ...change }), message);
  await bad({ seed: 7 }, /^options\.seed must be a bigint/);
  await bad({ seed: -1n }, /^options\.seed/);
  await bad({ seed: 1n << 64n }, /^options\.seed/);
  await bad({ width: 65 }, /multiples of 16/);
  await bad({ width: NaN }, /^options\.width must be an integer/);
  await bad({ rope: 'x' }, /^options\.rope must be one of 'package', 'absolute', 'relative', got 'x'/);
  await bad({ globalSink: 1 }, /^options\.globalSink must be a boolean/);
  await bad({ extra: 1 }, /^options\.extra is unknown/);
  await refuses(model.createSession(), /options must be an object/);
  await refuses(addon.loadModel({ ...load, precision: 'fp4' }), /^options\.precision must be one of/);
  await refuses(addon.loadModel({ ...load, precision: 'fp8' }), /^precision "fp8" is for device "cuda": load with precision "int8" or "bf16"$/);
  await refuses(addon.loadModel({ ...load, attention: 'int8' }), /^attention "int8" is for device "cuda": load with attention "full"$/);
  await refuses(addon.loadModel({ ...load, threads: 1.5 }), /^options\.threads/);
  await refuses(addon.loadModel({ ...load, isa: 'mmx' }), /mmx/);
  await refuses(addon.loadModel({ ...load, directory: '/nowhere' }), /manifest\.json/, 'INVALID_PACKAGE');
  await refuses(addon.loadModel({ ...load, decoder: 'tiny' }), /tiny/);
  await refuses(model.encodePrompt([1]), /^ids must be an Int32Array/);
  await refuses(model.encodePrompt(Int32Array.of(1000)), /vocabulary/);
  await refuses(s.setPrompt({}, 'recache'), /^prompt must come from encodePrompt/);
  const text = await model.encodePrompt(ids);
  assert.equal((await model.blendPrompts(text, text, 0.5, 'slerp')).tokens, text.tokens);
  await refuses(model.blendPrompts(text, {}, 0.5, 'linear'), /^prompt must come from encodePrompt/);
  await refuses(model.blendPrompts(text, text, 2, 'linear'), /^share must be a number from 0 to 1/);
  await refuses(model.blendPrompts(text, text, '0.5', 'linear'), /^share must be a number/);
  await refuses(model.blendPrompts(text, text, 0.5, 'cubic'), /^kind must be one of/);
  await refuses(s.setPrompt(prompt, 'x'), /^mode must be one of/);
  await refuses(s.step(), /setPrompt/);
  await refuses(model.restoreSession(session, 'x', prompt), /^checkpoint must be a Uint8Array/);
  await refuses(model.restoreSession(session, Uint8Array.of(1), prompt), /checkpoint/, 'INVALID_PACKAGE');
  for (const object of [model, s, prompt]) assert.throws(() => new object.constructor(), refusedWith('INVALID_ARGUMENT', /is made by/));
});

test('a text does not wait for the steps that were asked for before it', async () => {
  const model = await addon.loadModel(load);
  const prompt = await model.encodePrompt(ids);
  const sessions = await Promise.all(Array.from({ length: 300 }, () => model.createSession(session)));
  await Promise.all(sessions.map((s) => s.setPrompt(prompt, 'recache')));
  const settled = [];
  const call = (name, promise) => promise.then(() => settled.push(name));
  await Promise.all([...sessions.map((s) => call('step', s.step())), call('text', model.encodePrompt(ids))]);
  assert.notEqual(settled.at(-1), 'text');
});

test('a model may be disposed while it encodes a text', async () => {
  const model = await addon.loadModel(load);
  const texts = [model.encodePrompt(ids), model.encodePrompt(ids)];
  model.dispose();
  for (const prompt of await Promise.all(texts)) assert.equal(prompt.tokens, 3);
  await assert.rejects(model.encodePrompt(ids), refusedWith('INVALID_ARGUMENT', /disposed/));
});

test('one call of a session at a time, many sessions of a model', async () => {
  const model = await addon.loadModel(load);
  const prompt = await model.encodePrompt(ids);
  const sessions = await Promise.all(Array.from({ length: 4 }, () => model.createSession(session)));
  await Promise.all(sessions.map((s) => s.setPrompt(prompt, 'recache')));
  const [a] = sessions;
  const running = a.step();
  await assert.rejects(a.step(), refusedWith('INVALID_ARGUMENT', /busy/));
  await assert.rejects(a.abandonBlock(), refusedWith('INVALID_ARGUMENT', /busy/));
  assert.equal((await running).kind, 'denoise');
  await a.abandonBlock();
  const results = await Promise.all(sessions.map(block));
  for (const steps of results) assert.deepEqual(steps[4].frames.i420, results[0][4].frames.i420);
});

test('nothing that a session is asked for waits for a device that is at work for another one', async () => {
  const model = await addon.loadModel(load);
  const prompt = await model.encodePrompt(ids);
  const [a, b] = [await model.createSession(session), await model.createSession(session)];
  await Promise.all([a.setPrompt(prompt, 'recache'), b.setPrompt(prompt, 'recache')]);
  const settled = [];
  const call = (name, promise) => promise.then(() => settled.push(name));
  const calls = [call('step', a.step()), call('checkpoint', b.checkpoint()), call('create', model.createSession(session))];
  b.dispose();
  settled.push('asked');
  await Promise.all(calls);
  assert.deepEqual(settled, ['asked', 'step', 'checkpoint', 'create']);
});

test('what was disposed refuses, and a running call ends well', async () => {
  const model = await addon.loadModel(load);
  const prompt = await model.encodePrompt(ids);
  const s = await model.createSession(session);
  await s.setPrompt(prompt, 'recache');
  const running = s.step();
  s.dispose();
  s.dispose();
  model.dispose();
  assert.equal((await running).kind, 'denoise');
  await assert.rejects(s.step(), refusedWith('INVALID_ARGUMENT', /disposed/));
  await assert.rejects(s.lastRgb(), refusedWith('INVALID_ARGUMENT', /disposed/));
  await assert.rejects(model.createSession(session), refusedWith('INVALID_ARGUMENT', /disposed/));
  await assert.rejects(model.encodePrompt(ids), refusedWith('INVALID_ARGUMENT', /disposed/));
});

async function collect() {
  for (let i = 0; i < 4; ++i) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('garbage is collected, also with calls under way', async () => {
  const round = async () => {
    const model = await addon.loadModel(load);
    const prompt = await model.encodePrompt(ids);
    for (let i = 0; i < 8; ++i) {
      const s = await model.createSession(session);
      await s.setPrompt(prompt, 'recache');
      void s.step();
    }
  };
  // One reading swings by 75 MB, by what is under way at that moment; the lowest of four swings by 30. A model forgotten
  // in each round shows as 100 MB, a session as 250.
  const lowest = async () => {
    let bytes = Infinity;
    for (let reading = 0; reading < 4; ++reading) {
      for (let i = 0; i < 12; ++i) await round();
      await collect();
      bytes = Math.min(bytes, process.memoryUsage().rss);
    }
    return bytes;
  };
  const before = await lowest();
  const grown = (await lowest()) - before;
  assert.ok(grown < 64e6, `grew by ${grown} bytes`);
});

test('worker threads may come and go in the middle of a call', async () => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    const addon = require(workerData.addonPath);
    (async () => {
      const model = await addon.loadModel(workerData.load);
      const s = await model.createSession(workerData.session);
      await s.setPrompt(await model.encodePrompt(Int32Array.of(3, 1)), 'recache');
      parentPort.postMessage('ready');
      for (;;) await Promise.all([s.step(), model.encodePrompt(Int32Array.of(4, 1))]);
    })();`;
  for (let i = 0; i < 4; ++i) {
    const worker = new Worker(source, { eval: true, workerData: { addonPath, load, session } });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await new Promise((resolve) => setTimeout(resolve, 3 * i));
    await worker.terminate();
  }
});

test('a process may exit in the middle of a call', () => {
  const source = `
    const addon = require(${JSON.stringify(addonPath)});
    (async () => {
      const model = await addon.loadModel(${JSON.stringify(load)});
      const s = await model.createSession({ seed: 7n, width: 64, height: 48, rope: 'package' });
      await s.setPrompt(await model.encodePrompt(Int32Array.of(3, 1)), 'recache');
      void s.step(), void model.encodePrompt(Int32Array.of(4, 1));
      process.exit(0);
    })();`;
  for (let i = 0; i < 3; ++i) {
    const { status, signal, stderr } = spawnSync(process.execPath, ['-e', source], { encoding: 'utf8' });
    assert.deepEqual({ status, signal, stderr }, { status: 0, signal: null, stderr: '' });
  }
});

test('arrays that are handed over are copies from then on, and only plain memory is taken', async () => {
  const operands = () => [Float32Array.of(1, 2, 3, 4, 5, 6), Float64Array.of(1, 10, -1, 0.5), Float32Array.of(1, 2, 3, 0.5, 0.25, 0.125)];
  const refuses = (promise, message) => assert.rejects(promise, refusedWith('INVALID_ARGUMENT', message));
  // Transferred, resized or written in the middle of the call.
  for (const at of [1, 2]) {
    const arrays = operands();
    const running = addon.addProduct(...arrays, 2);
    structuredClone(arrays[at].buffer, { transfer: [arrays[at].buffer] });
    await running;
    assert.deepEqual([...arrays[0]], [7, 6.5, 7.25, 3.25, 3.125, 3.0625]);
  }
  {
    const arrays = operands();
    const running = addon.addProduct(...arrays, 2);
    const moved = new Float32Array(structuredClone(arrays[0].buffer, { transfer: [arrays[0].buffer] }));
    await refuses(running, /^values is detached/);
    assert.deepEqual([...moved], [1, 2, 3, 4, 5, 6]);
  }
  {
    const memory = new ArrayBuffer(24, { maxByteLength: 64 });
    const [values, b, a] = [new Float32Array(memory), ...operands().slice(1)];
    values.set(operands()[0]);
    const running = addon.addProduct(values, b, a, 2);
    memory.resize(16);
    await refuses(running, /^values was resized/);
    const fixed = new Float32Array(new ArrayBuffer(24, { maxByteLength: 64 }), 8, 4);
    fixed.buffer.resize(12);
    // An array that no longer fits its memory has no elements.
    await refuses(addon.addProduct(fixed, b, a, 2), /values/);
  }
  // Shared, detached, of another realm.
  const shared = (Type, source) => Type.from(source, (x) => x) && new Type(new SharedArrayBuffer(source.byteLength));
  for (const at of [0, 1, 2]) {
    const arrays = operands();
    arrays[at] = shared(arrays[at].constructor, arrays[at]);
    await refuses(addon.addProduct(...arrays, 2), /SharedArrayBuffer/);
    const gone = operands();
    structuredClone(gone[at].buffer, { transfer: [gone[at].buffer] });
    await refuses(addon.addProduct(...gone, 2), /detached/);
  }
  const { runInNewContext } = await import('node:vm');
  const foreign = runInNewContext('[Float32Array.of(1, 2, 3, 4, 5, 6), Float64Array.of(1, 10, -1, 0.5)]');
  await addon.addProduct(foreign[0], foreign[1], operands()[2], 2);
  assert.deepEqual([...foreign[0]], [7, 6.5, 7.25, 3.25, 3.125, 3.0625]);
  for (const rank of [0, -1, 1.5, NaN, Infinity, 2 ** 40, '2', null, 2n]) await refuses(addon.addProduct(...operands(), rank), /^rank/);

  const model = await addon.loadModel(load);
  const prompt = await model.encodePrompt(ids);
  const detached = Int32Array.of(3, 1);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  await refuses(model.encodePrompt(detached), /^ids is detached/);
  await refuses(model.encodePrompt(new Int32Array(new SharedArrayBuffer(8))), /^ids/);
  await refuses(model.encodePrompt(new Int32Array(1e6)), /^ids may have 12 elements, got 1000000/);
  const s = await model.createSession(session);
  await s.setPrompt(prompt, 'recache');
  await block(s);
  const saved = await s.checkpoint();
  const running = model.restoreSession(session, saved, prompt);
  structuredClone(saved.buffer, { transfer: [saved.buffer] });
  assert.equal((await running).block, 1);
  await refuses(model.restoreSession(session, saved, prompt), /^checkpoint is detached/);
});

test('objects are what they were made as, whatever their prototype says', async () => {
  const model = await addon.loadModel(load);
  const prompt = await model.encodePrompt(ids);
  const s = await model.createSession(session);
  const other = await addon.loadModel(load);
  for (const lie of [other, await other.createSession(session), {}, []]) {
    Object.setPrototypeOf(lie, Object.getPrototypeOf(prompt));
    await assert.rejects(s.setPrompt(lie, 'recache'), refusedWith('INVALID_ARGUMENT', /must come from encodePrompt/));
  }
  await assert.rejects(s.setPrompt(new Proxy(prompt, {}), 'recache'), refusedWith('INVALID_ARGUMENT', /must come from encodePrompt/));
  Object.defineProperty(prompt.constructor, Symbol.hasInstance, { value: () => true });
  await assert.rejects(s.setPrompt({}, 'recache'), refusedWith('INVALID_ARGUMENT', /must come from encodePrompt/));
  const { step } = Object.getPrototypeOf(s);
  for (const receiver of [model, prompt, {}]) assert.throws(() => step.call(receiver), TypeError);
  await s.setPrompt(prompt, 'recache');
  await assert.rejects(addon.loadModel({ ...load, directory: `${directory}\0x` }), refusedWith('INVALID_ARGUMENT', /NUL/));
});

test('a session that a checkpoint does not fit leaves the model well, and the error says whose it is', async () => {
  const model = await addon.loadModel(load);
  const prompt = await model.encodePrompt(ids);
  const s = await model.createSession({ ...session, rope: 'absolute' });
  await s.setPrompt(prompt, 'recache');
  for (let i = 0; i < 4; i++) await block(s);
  const saved = Buffer.from(await s.checkpoint());
  // Counters of the same length, so that the header stays what it is.
  const damaged = Buffer.from(saved.toString('latin1').replace('"sinkStart":"0"', '"sinkStart":"8"'), 'latin1');
  assert.notDeepEqual(damaged, saved);
  const options = { ...session, rope: 'absolute' };
  await assert.rejects(model.restoreSession(options, new Uint8Array(damaged), prompt), refusedWith('INVALID_ARGUMENT', /^the checkpoint /));
  assert.equal((await model.restoreSession(options, new Uint8Array(saved), prompt)).block, 4);
});

test('whatever byte of a checkpoint is wrong, or missing, it is refused with a code or gone on from', async () => {
  const model = await addon.loadModel(load);
  const prompt = await model.encodePrompt(ids);
  const s = await model.createSession(session);
  await s.setPrompt(prompt, 'recache');
  await block(s);
  const saved = await s.checkpoint();
  const tries = Array.from({ length: 64 }, (_, i) => {
    const damaged = saved.slice(0, i % 4 === 0 ? (i * saved.length) >> 6 : saved.length);
    if (i % 4 > 0) damaged[(i * 37) % 640] ^= 1 << i % 8;
    return model.restoreSession(session, damaged, prompt).then(block).catch((error) => assert.match(error.code, /^INVALID_(PACKAGE|ARGUMENT)$/, error));
  });
  await Promise.all(tries);
  assert.equal((await model.restoreSession(session, saved, prompt)).block, 1);
});

test('the collector knows what models hold, and takes forgotten ones before there are many', async () => {
  await collect();
  let taken = 0;
  const registry = new FinalizationRegistry(() => taken++);
  let [held, loaded] = [0, 0];
  for (; taken === 0 && held < 512e6; loaded++) {
    const model = await addon.loadModel(load);
    registry.register(model);
    held += model.weightBytes;
  }
  assert.ok(taken > 0, `none of ${loaded} models, which hold ${held} bytes`);
});

test('a model is destroyed on its own thread, not on that of JavaScript', () => {
  const source = `
    const { readdirSync } = require('node:fs');
    const addon = require(${JSON.stringify(addonPath)});
    const threads = () => readdirSync('/proc/self/task').length;
    (async () => {
      let gone = 0;
      for (let i = 0; i < 20; i++) {
        const model = await addon.loadModel(${JSON.stringify({ ...load, threads: 8 })});
        const before = threads();
        model.dispose();
        gone += threads() < before;
      }
      // Its pool's threads end with it, now and then while they are counted.
      console.log(gone < 20);
    })();`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', source], { encoding: 'utf8' });
  assert.deepEqual({ stdout, stderr }, { stdout: 'true\n', stderr: '' });
});

test('a model and its threads go by themselves, and JavaScript does not wait for them', () => {
  const source = `
    const { readdirSync } = require('node:fs');
    const addon = require(${JSON.stringify(addonPath)});
    const threads = () => readdirSync('/proc/self/task').length;
    (async () => {
      // Node's own threads are there once a model has come and gone.
      const come = async () => {
        const models = await Promise.all(Array.from({ length: 6 }, () => addon.loadModel(${JSON.stringify({ ...load, threads: 3 })})));
        const sessions = await Promise.all(models.map((model) => model.createSession({ seed: 7n, width: 64, height: 48, rope: 'package' })));
        const during = threads();
        for (const model of models) model.dispose();
        for (const session of sessions) session.dispose();
        for (let i = 0; i < 1500 && threads() > during - 36; i++) await new Promise((resolve) => setTimeout(resolve, 20));
        return during - threads();
      };
      await come();
      // Of each: one for calls, one for texts, two of each of its pools.
      console.log(await come());
    })();`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', source], { encoding: 'utf8' });
  assert.deepEqual({ stdout, stderr }, { stdout: '36\n', stderr: '' });
});
