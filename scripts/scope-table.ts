/** What each operation and path asks of a credential, as docs/security.md has it. */
import type { GraphQLSchema } from 'graphql';
import { scopeOfOperation } from '../src/api/index.js';
import { SCOPES } from '../src/sessions/index.js';

const PATHS: [path: string, needs: string][] = [
  ['`GET /sessions/…`: media', 'nothing: the URL is signed, and was handed out under `session:watch`'],
  ['`GET /metrics`; what `/readyz` says beyond ready or not', '`admin`'],
  ['`GET /healthz`, `/readyz`, the studio', 'nothing'],
];

const BEGIN = '<!-- scopes: npm run schema -->';
const END = '<!-- /scopes -->';

export function scopeTable(schema: GraphQLSchema): string {
  const roots = {
    query: schema.getQueryType(),
    mutation: schema.getMutationType(),
    subscription: schema.getSubscriptionType(),
  };
  const operations = Object.entries(roots).flatMap(([kind, root]) =>
    Object.keys(root?.getFields() ?? {}).map((name) => ({ kind, name, scope: scopeOfOperation(name) })),
  );
  const missing = operations.filter(({ scope }) => scope === undefined);
  if (missing.length > 0) throw new Error(`No scope is known for ${missing.map(({ name }) => name).join(', ')}.`);
  const of = (scope: string | null) =>
    operations
      .filter((operation) => operation.scope === scope)
      .map(({ name }) => `\`${name}\``)
      .join(', ');
  return [
    '| Scope | What it is for | Operations |',
    '|---|---|---|',
    ...Object.entries(SCOPES).map(
      ([scope, what]) => `| \`${scope}\` | ${what} | ${scope === 'admin' ? 'all' : of(scope)} |`,
    ),
    `| none | what any caller may | ${of(null)} |`,
    '',
    '`node` and `nodes` need `models:read` for a model.',
    '',
    '| Path | Needs |',
    '|---|---|',
    ...PATHS.map(([path, needs]) => `| ${path} | ${needs} |`),
  ].join('\n');
}

/** The page with the table of this code. */
export function withScopeTable(page: string, schema: GraphQLSchema): string {
  const [before, rest] = split(page, BEGIN);
  const [, after] = split(rest, END);
  return `${before}${BEGIN}\n\n${scopeTable(schema)}\n\n${END}${after}`;
}

function split(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  if (at < 0) throw new Error(`${mark} is missing.`);
  return [text.slice(0, at), text.slice(at + mark.length)];
}
