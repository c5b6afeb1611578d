import { Command, InvalidArgumentError, Option } from 'commander';
import { loadConfig } from '../server/config.js';
import { type KeyRecord, stateOf } from '../server/credentials/api-key.js';
import { KeyFile } from '../server/credentials/key-file.js';
import { ALL_SCOPES, isScope, isTenant, type Scope } from '../sessions/index.js';
import { openConfiguredStore, openExistingStore } from './backend.js';
import { addSettings } from './settings.js';
import { print, printable } from './terminal.js';

type Settings = Record<string, unknown>;

interface CreateFlags extends Settings {
  tenant: string;
  scopes: Scope[];
  name?: string;
  expiresDays?: number;
  creationsPerMinute?: number;
  promptsPerSecond?: number;
  costPerMinute?: number;
}

const STORE = ['store', 's3Endpoint', 's3Region'];

/** `longlive keys`: who may call a service, beside whoever has its token. */
export function keysCommand(): Command {
  const command = new Command('keys').description(
    'API keys of the services on a store; changes take effect in seconds',
  );
  addSettings(
    command
      .command('create')
      .description('create a key, and print it: it is shown this once')
      .requiredOption(
        '--tenant <tenant>',
        'whose sessions it makes and sees: letters, digits, ".", "_" and "-"',
        tenant,
      )
      .addOption(
        new Option('--scopes <scopes>', `what it may do, comma-separated: ${ALL_SCOPES.join(', ')}`)
          .argParser(scopes)
          .makeOptionMandatory(),
      )
      .option('--name <name>', 'what it is for, in the list')
      .option('--expires-days <days>', 'it is not taken any more after so many days', days)
      .option('--creations-per-minute <number>', 'sessions that it may make per minute, forks included', whole)
      .option('--prompts-per-second <number>', 'prompts that it may send per second', whole)
      .option('--cost-per-minute <number>', 'cost of its operations per minute, counted as for --max-cost', whole),
    STORE,
  ).action(create);
  addSettings(
    command
      .command('list')
      .description('list the keys, without their secrets')
      .option('--json', 'print one JSON object per key, one per line'),
    STORE,
  ).action(list);
  addSettings(
    command
      .command('rotate')
      .description(
        'give a key another secret, and print it; the last one is taken, too, until it is revoked with --old',
      )
      .argument('<id>', 'as the list has it'),
    STORE,
  ).action(rotate);
  addSettings(
    command
      .command('revoke')
      .description('end a key for good; what is open for it is closed within 5 seconds')
      .argument('<id>', 'as the list has it')
      .option('--old', 'end only the secrets before the newest one'),
    STORE,
  ).action(revoke);
  return command;
}

async function create(flags: CreateFlags): Promise<void> {
  const { tenant, scopes, name, expiresDays, creationsPerMinute, promptsPerSecond, costPerMinute, ...settings } = flags;
  const limits = limitsOf({ creations: creationsPerMinute, prompts: promptsPerSecond, cost: costPerMinute });
  const expiresAt = expiresDays === undefined ? undefined : new Date(Date.now() + expiresDays * 86_400_000);
  const store = openConfiguredStore(loadConfig(process.env, settings));
  const { key } = await new KeyFile(store).create({ tenant, scopes, name, limits, expiresAt });
  print(`${key}\n`);
}

async function list({ json, ...settings }: Settings & { json?: boolean }): Promise<void> {
  const keys = keysOf(settings);
  for (const record of (await keys.read()).keys) {
    const lastUse = await keys.lastUse(record.id);
    print(json ? `${JSON.stringify(shown(record, lastUse))}\n` : lineOf(record, lastUse));
  }
}

async function rotate(id: string, settings: Settings): Promise<void> {
  print(`${await keysOf(settings).rotate(id)}\n`);
}

async function revoke(id: string, { old, ...settings }: Settings & { old?: boolean }): Promise<void> {
  const keys = keysOf(settings);
  await (old ? keys.revokeOld(id) : keys.revoke(id));
  print(`${id}: ${old ? 'only the newest secret is taken now' : 'revoked'}\n`);
}

function keysOf(settings: Settings): KeyFile {
  return new KeyFile(openExistingStore(loadConfig(process.env, settings)));
}

/** Nothing that a secret could be found by. */
function shown({ secrets, ...record }: KeyRecord, lastUse: Date | undefined): object {
  return {
    ...record,
    state: stateOf(record as KeyRecord, Date.now()),
    secrets: secrets.map(({ createdAt }) => ({ createdAt })),
    lastUsedAt: lastUse?.toISOString() ?? null,
  };
}

function lineOf(record: KeyRecord, lastUse: Date | undefined): string {
  const { id, tenant, name, scopes, secrets, limits, createdAt } = record;
  const facts = [
    stateOf(record, Date.now()),
    `tenant ${tenant}`,
    scopes.join(','),
    `created ${createdAt.slice(0, 10)}`,
    lastUse ? `last used ${lastUse.toISOString().slice(0, 16)}Z` : 'never used',
    ...(secrets.length > 1 ? ['two secrets'] : []),
    ...(limits ? [limitsInWords(limits)] : []),
    ...(name === undefined ? [] : [printable(name)]),
  ];
  return `${id}  ${facts.join('  ')}\n`;
}

/** Undefined where there are none. */
function limitsOf(given: NonNullable<KeyRecord['limits']>): KeyRecord['limits'] {
  const limits = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return Object.keys(limits).length > 0 ? limits : undefined;
}

function limitsInWords({ creations, prompts, cost }: NonNullable<KeyRecord['limits']>): string {
  const words = { 'sessions/min': creations, 'prompts/s': prompts, 'cost/min': cost };
  const known = Object.entries(words).flatMap(([unit, most]) => (most === undefined ? [] : [`${most} ${unit}`]));
  return `at most ${known.join(', ')}`;
}

function whole(text: string): number {
  const value = Number(text);
  if (/^\d{1,9}$/.test(text) && value > 0) return value;
  throw new InvalidArgumentError('It must be a whole number from 1 to 999999999.');
}

function tenant(text: string): string {
  if (isTenant(text)) return text;
  throw new InvalidArgumentError(
    'A tenant has 1 to 64 letters, digits, ".", "_" and "-", and begins with a letter or a digit.',
  );
}

function scopes(text: string): Scope[] {
  const given = text.split(',').map((scope) => scope.trim());
  const unknown = given.find((scope) => !isScope(scope));
  if (unknown === undefined) return [...new Set(given as Scope[])];
  throw new InvalidArgumentError(`"${unknown}" is not a scope; there are ${ALL_SCOPES.join(', ')}.`);
}

function days(text: string): number {
  const value = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && value > 0 && value <= 36_500) return value;
  throw new InvalidArgumentError('It must be a number of days, more than 0 and at most 36500.');
}
