import { expect, it } from 'vitest';
import { compare, kernelsOf, shortened } from '../../../scripts/cuda-registers.js';

const log = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Zfast' for 'sm_90a'
ptxas info    : Function properties for _Zfast
    0 bytes stack frame, 0 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers
ptxas info    : Compiling entry function '_Zfast' for 'sm_80'
    0 bytes stack frame, 40 bytes spill stores, 40 bytes spill loads
ptxas info    : Used 255 registers`;

it('reads registers and spills of one architecture', () => {
  expect(kernelsOf(log, 'sm_90a')).toEqual({ _Zfast: { registers: 168, spillBytes: 12 } });
  expect(kernelsOf(log, 'sm_80')).toEqual({ _Zfast: { registers: 255, spillBytes: 40 } });
});

it('names what goes over its budget, and what is gone', () => {
  const kernels = { a: { registers: 100, spillBytes: 8 } };
  expect(compare(kernels, { a: { registers: 100, spillBytes: 8 } })).toEqual([]);
  expect(compare(kernels, { a: { registers: 96, spillBytes: 0 }, b: { registers: 1, spillBytes: 0 } })).toEqual([
    'a: 100 registers, the budget is 96',
    'a: 8 spillBytes, the budget is 0',
    'b: not compiled; the budget names a kernel that is gone',
  ]);
});

it('calls kernels by their own names', () => {
  expect(
    shortened(
      'void longlive::cuda::(anonymous namespace)::gemmKernel<longlive::cuda::bf16, float, 4>(longlive::cuda::Gather, float const*)',
    ),
  ).toBe('gemmKernel<bf16, float, 4>');
  expect(shortened('longlive::cuda::(anonymous namespace)::hopperKernel(Maps, int)')).toBe('hopperKernel');
});
