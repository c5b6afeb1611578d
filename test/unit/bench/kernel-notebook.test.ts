/** What the kernel notebook calls measured is what its result file says. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { parseResult } from '../../../bench/gpu/report.js';

const root = resolve(import.meta.dirname, '../../..');
const notebook = readFileSync(resolve(root, 'native/ops/cuda/README.md'), 'utf8');

test("the notebook's ceilings are those of the results that it names", () => {
  const said = /^Ceilings of that H200 \(`(.+)`\): a copy (.+) TB\/s, a bf16 product of 8192\^3 (.+) TFLOP\/s;/m.exec(
    notebook,
  );
  const [, file, copy, product] = said ?? [];
  const result = parseResult(readFileSync(resolve(root, file ?? ''), 'utf8'), file ?? '');
  const measured = (name: RegExp) => {
    const kernel = result.parts['ceilings-bf16']?.kernels?.find((one) => name.test(one.name));
    if (!kernel) throw new Error(`${file} has no kernel ${name}`);
    return kernel;
  };
  const bytes = measured(/^copy, /);
  const operations = measured(/^product 8192\^3$/);
  expect(copy).toBe((bytes.bytes / bytes.ms / 1e9).toPrecision(3));
  expect(product).toBe((operations.operations / operations.ms / 1e9).toPrecision(3));
});
