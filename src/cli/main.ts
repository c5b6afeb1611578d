#!/usr/bin/env node
import { createRequire } from 'node:module';
import { Command } from 'commander';
import { complain, print } from './terminal.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** A command's modules are loaded when it is the one that is called: most of a short run would be spent on the others'. */
const COMMANDS: Record<string, () => Promise<Command>> = {
  serve: async () => (await import('./serve.js')).serveCommand(),
  generate: async () => (await import('./generate.js')).generateCommand(),
  import: async () => (await import('./import.js')).importCommand(),
  quantize: async () => (await import('./quantize.js')).quantizeCommand(),
  export: async () => (await import('./export.js')).exportCommand(),
  fsck: async () => (await import('./fsck.js')).fsckCommand(),
  models: async () => (await import('./models.js')).modelsCommand(),
  doctor: async () => (await import('./doctor.js')).doctorCommand(),
  keys: async () => (await import('./keys.js')).keysCommand(),
  secrets: async () => (await import('./secrets.js')).secretsCommand(),
};

const program = new Command('longlive')
  .description('Real-time, interactive, endless video generation')
  .version(version)
  .showHelpAfterError('(see --help)')
  .configureOutput({ writeOut: print, writeErr: complain })
  .exitOverride();

const called = COMMANDS[process.argv[2] ?? ''];
for (const load of called ? [called] : Object.values(COMMANDS)) program.addCommand(await load());

for (const command of program.commands.flatMap((outer) => [outer, ...outer.commands])) {
  command.exitOverride().copyInheritedSettings(program);
}

try {
  await program.parseAsync();
} catch (error) {
  const { EXIT, explain } = await import('./failure.js');
  if (isUsage(error)) {
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  } else {
    const { exitCode, message } = explain(error);
    complain(`longlive: ${message}\n`);
    process.exitCode = exitCode;
  }
}

/** Commander has printed its own message already. */
function isUsage(error: unknown): error is { exitCode: number } {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('commander.');
}
