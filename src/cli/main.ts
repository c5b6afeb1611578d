#!/usr/bin/env node
import { createRequire } from 'node:module';
import { Command } from 'commander';
import { doctorCommand } from './doctor.js';
import { EXIT, explain } from './failure.js';
import { generateCommand } from './generate.js';
import { importCommand } from './import.js';
import { modelsCommand } from './models.js';
import { serveCommand } from './serve.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

const program = new Command('longlive')
  .description('Real-time, interactive, endless video generation')
  .version(version)
  .showHelpAfterError('(see --help)')
  .exitOverride()
  .addCommand(serveCommand())
  .addCommand(generateCommand())
  .addCommand(importCommand())
  .addCommand(modelsCommand())
  .addCommand(doctorCommand());

for (const command of program.commands.flatMap((outer) => [outer, ...outer.commands])) {
  command.exitOverride().copyInheritedSettings(program);
}

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = isUsage(error) ? (error.exitCode === 0 ? EXIT.ok : EXIT.usage) : report(error);
}

/** Commander has printed its own message already. */
function isUsage(error: unknown): error is { exitCode: number } {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('commander.');
}

function report(error: unknown): number {
  const { exitCode, message } = explain(error);
  process.stderr.write(`longlive: ${message}\n`);
  return exitCode;
}
