// Compares what ptxas says of the kernels (registers, spills) with a committed budget.
//
//   tsx scripts/cuda-registers.ts LOGS BUDGET ARCH            fails where a kernel goes over its budget, or is not there
//   tsx scripts/cuda-registers.ts LOGS BUDGET ARCH --write    makes the budget what the compiler says now
//
// The budget: { "kernel name": { "registers": n, "spillBytes": n } } for one architecture.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const ENTRY = /Compiling entry function '(\w+)' for '(\w+)'/;
const SPILLS = /(\d+) bytes spill stores, (\d+) bytes spill loads/;
const REGISTERS = /Used (\d+) registers/;

export interface Resources {
  registers: number;
  spillBytes: number;
}
type Kernels = Record<string, Resources>;

/** Kernels of one architecture in a compiler's log: mangled name -> { registers, spillBytes }. */
export function kernelsOf(log: string, arch: string): Kernels {
  const kernels: Kernels = {};
  let current: Resources | undefined;
  for (const line of log.split('\n')) {
    const entry = ENTRY.exec(line);
    if (entry?.[1]) current = entry[2] === arch ? (kernels[entry[1]] = { registers: 0, spillBytes: 0 }) : undefined;
    if (!current) continue;
    const spills = SPILLS.exec(line);
    if (spills) current.spillBytes = Math.max(Number(spills[1]), Number(spills[2]));
    const registers = REGISTERS.exec(line);
    if (registers) current.registers = Number(registers[1]);
  }
  return kernels;
}

/** What is wrong, a sentence each. */
export function compare(kernels: Kernels, budget: Kernels): string[] {
  return Object.entries(budget).flatMap(([name, allowed]) => {
    const found = kernels[name];
    if (!found) return [`${name}: not compiled; the budget names a kernel that is gone`];
    return (['registers', 'spillBytes'] as const)
      .filter((key) => found[key] > allowed[key])
      .map((key) => `${name}: ${found[key]} ${key}, the budget is ${allowed[key]}`);
  });
}

/** By the kernels' own names; their arguments say nothing that the names do not. */
function readable(kernels: Kernels): Kernels {
  const mangled = Object.keys(kernels);
  if (mangled.length === 0) return {};
  const names = execFileSync('c++filt', { input: mangled.join('\n') })
    .toString()
    .trim()
    .split('\n');
  return Object.fromEntries(Object.values(kernels).map((resources, i) => [shortened(names[i] ?? ''), resources]));
}

export function shortened(name: string): string {
  const plain = name
    .replaceAll('longlive::cuda::', '')
    .replaceAll('(anonymous namespace)::', '')
    .replace(/^void /, '');
  const call = /^[^(<]*(<.*?>)?(?=\()/.exec(plain);
  return call ? call[0] : plain;
}

function main([logs = '', budgetFile = '', arch = '', write]: string[]): void {
  const files = readdirSync(logs).filter((name) => name.endsWith('.log'));
  const read = files.map((name) => readable(kernelsOf(readFileSync(join(logs, name), 'utf8'), arch)));
  const kernels = Object.assign({}, ...read) as Kernels;
  if (write === '--write') {
    const sorted = Object.fromEntries(Object.entries(kernels).sort(([a], [b]) => a.localeCompare(b)));
    writeFileSync(budgetFile, `${JSON.stringify(sorted, null, 2)}\n`);
    return;
  }
  const wrong = compare(kernels, JSON.parse(readFileSync(budgetFile, 'utf8')) as Kernels);
  for (const line of wrong) console.error(line);
  console.log(`${Object.keys(kernels).length} kernels for ${arch}`);
  if (wrong.length > 0) process.exitCode = 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main(process.argv.slice(2));
