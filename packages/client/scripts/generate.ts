/**
 * Writes src/generated/, and the same for Python, from schema/schema.graphql and src/operations.graphql: the types and texts of
 * the operations, and a class for every error of the schema. `npm run generate -w packages/client`; with --check it only compares.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { codegen } from '@graphql-codegen/core';
import * as operations from '@graphql-codegen/typescript-operations';
import {
  buildSchema,
  type DocumentNode,
  type FragmentDefinitionNode,
  type GraphQLEnumType,
  type GraphQLInterfaceType,
  type GraphQLObjectType,
  Kind,
  type OperationDefinitionNode,
  parse,
  print,
  stripIgnoredCharacters,
  validate,
  visit,
} from 'graphql';
import { format, resolveConfig } from 'prettier';
import { pythonModule } from './python.js';

const here = (path: string) => new URL(path, import.meta.url);
const schema = buildSchema(readFileSync(here('../../../schema/schema.graphql'), 'utf8'));
const document = parse(readFileSync(here('../src/operations.graphql'), 'utf8'));
const mistakes = validate(schema, document);
if (mistakes.length > 0) throw new Error(mistakes.join('\n'));

const HEAD = '// Made from schema/schema.graphql by `npm run schema`; do not edit.\n';

const SCALARS = { Base64: 'string', Cursor: 'string', DateTime: 'string', Seed: 'string', ID: 'string' };

function typesOf(): Promise<string> {
  return codegen({
    filename: 'operations.ts',
    schema: parse(readFileSync(here('../../../schema/schema.graphql'), 'utf8')),
    documents: [{ document }],
    plugins: [{ operations: {} }],
    pluginMap: { operations },
    config: {
      scalars: Object.fromEntries(Object.entries(SCALARS).map(([name, type]) => [name, { input: type, output: type }])),
      enumsAsTypes: true,
      enumType: 'string-literal',
      skipTypename: true,
      immutableTypes: true,
      inlineFragmentTypes: 'combine',
      avoidOptionals: { field: true },
      useTypeImports: true,
    },
  });
}

/** Of the operation, then of each fragment that it needs. */
function partsOf(operation: OperationDefinitionNode, fragments: ReadonlyMap<string, FragmentDefinitionNode>): string[] {
  const used = new Map<string, FragmentDefinitionNode>();
  const follow = (node: OperationDefinitionNode | FragmentDefinitionNode): unknown =>
    visit(node, {
      FragmentSpread({ name }) {
        const fragment = fragments.get(name.value);
        if (!fragment || used.has(name.value)) return;
        used.set(name.value, fragment);
        follow(fragment);
      },
    });
  follow(operation);
  return [operation, ...used.values()].map((node) => stripIgnoredCharacters(print(node)));
}

function operationsOf({ definitions }: DocumentNode): { name: string; kind: string; parts: string[] }[] {
  const fragments = definitions.filter((node) => node.kind === Kind.FRAGMENT_DEFINITION);
  const byName = new Map(fragments.map((fragment) => [fragment.name.value, fragment]));
  return definitions
    .filter((node) => node.kind === Kind.OPERATION_DEFINITION)
    .map((operation) => {
      const kind = operation.operation[0]?.toUpperCase() + operation.operation.slice(1);
      return { name: operation.name?.value as string, kind, parts: partsOf(operation, byName) };
    });
}

/** Fragments are written once: what operations share would be in a page for each of them. */
function textsOf(document: DocumentNode): string {
  const operations = operationsOf(document);
  const fragments = [...new Set(operations.flatMap(({ parts }) => parts.slice(1)))].sort();
  const nameOf = (fragment: string) => /^fragment (\w+)/.exec(fragment)?.[1] as string;
  return [
    `import type { Operation } from '../wire/wire.js';`,
    ...fragments.map((fragment) => `const ${nameOf(fragment)}Text = ${JSON.stringify(fragment)};`),
    ...operations.map(({ name, kind, parts: [own, ...shared] }) => {
      const text = [JSON.stringify(own), ...shared.map((fragment) => `${nameOf(fragment)}Text`)].join(' + ');
      return `export const ${name}: Operation<${name}${kind}, ${name}${kind}Variables> = { text: ${text} };`;
    }),
    '',
  ].join('\n');
}

const constantCase = (name: string) => name.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase();

/** Which class has which codes: those that its name ends with; the one class without such a code has all others. */
function codesByClass(classes: readonly GraphQLObjectType[]): Map<GraphQLObjectType, string[]> {
  const codes = (schema.getType('ErrorCode') as GraphQLEnumType).getValues().map(({ name }) => name);
  const named = new Map(
    classes.map((type) => {
      const name = constantCase(type.name.replace(/Error$/, ''));
      return [type, codes.filter((code) => name === code || name.endsWith(`_${code}`))];
    }),
  );
  const rest = codes.filter((code) => ![...named.values()].flat().includes(code));
  const without = classes.filter((type) => named.get(type)?.length === 0);
  if (without.length !== 1)
    throw new Error(`No code of its own: ${without.join(', ')}. Tell codesByClass which it has.`);
  return named.set(without[0] as GraphQLObjectType, rest);
}

const TYPES: Readonly<Record<string, string>> = {
  Float: 'number',
  'Float!': 'number',
  Int: 'number',
  String: 'string',
};

function classOf(type: GraphQLObjectType, codes: readonly string[]): string {
  const more = Object.values(type.getFields()).filter(({ name }) => name !== 'code' && name !== 'message');
  const fields = more.map(({ name, type: of, description }) => {
    const written = TYPES[of.toString()];
    if (!written) throw new Error(`${type.name}.${name}: say in generate.ts what ${of.toString()} is in TypeScript.`);
    const optional = of.toString().endsWith('!') ? '' : ' | null';
    return { name, type: `${written}${optional}`, comment: description ? `/** ${description} */` : '' };
  });
  const told = `{ code: ${codes.map((code) => `'${code}'`).join(' | ')}; message: string; ${fields.map(({ name, type: of }) => `${name}: ${of};`).join(' ')} }`;
  const comment = type.description ?? codes.map((code) => codeText(code)).join(' ');
  return `/** ${comment} */
    export class ${type.name} extends ServiceError {
      override readonly name = '${type.name}';
      declare readonly code: ${codes.map((code) => `'${code}'`).join(' | ')};
      ${fields.map(({ name, type: of, comment: text }) => `${text}\nreadonly ${name}: ${of};`).join('\n')}
      constructor(told: ${told}) {
        super(told.code, told.message);
        ${fields.map(({ name }) => `this.${name} = told.${name};`).join('\n')}
      }
    }`;
}

const codeText = (code: string) => (schema.getType('ErrorCode') as GraphQLEnumType).getValue(code)?.description ?? '';

const errorTypes = [...schema.getPossibleTypes(schema.getType('Error') as GraphQLInterfaceType)].sort((a, b) =>
  a.name < b.name ? -1 : 1,
);

function errorsOf(classes: readonly GraphQLObjectType[]): string {
  const codes = codesByClass(classes);
  return `import { ServiceError } from '../errors.js';
    ${classes.map((type) => classOf(type, codes.get(type) ?? [])).join('\n\n')}

    /** Every error that the service answers with; \`switch (error.code)\` narrows it. */
    export type AnyServiceError = ${classes.map(({ name }) => name).join(' | ')};
  `;
}

const files = {
  'operations.ts': `${await typesOf()}\n${textsOf(document)}`,
  'errors.ts': errorsOf(errorTypes),
};

const check = process.argv.includes('--check');
const stale: string[] = [];

function keep(path: URL, made: string): void {
  if (check && readFileSync(path, 'utf8') !== made) stale.push(path.pathname.split('/').slice(-3).join('/'));
  if (!check) writeFileSync(path, made);
}

for (const [name, text] of Object.entries(files)) {
  const path = here(`../src/generated/${name}`);
  keep(path, await format(HEAD + text, { ...(await resolveConfig(path)), parser: 'typescript' }));
}
const texts = Object.fromEntries(operationsOf(document).map(({ name, parts }) => [name, parts.join('')]));
keep(
  here('../../../clients/python/src/longlive_client/_generated.py'),
  pythonModule(schema, document, texts, codesByClass(errorTypes)),
);
if (stale.length > 0) {
  console.error(`What is made from the schema is not what it says (${stale.join(', ')}): npm run schema`);
  process.exitCode = 1;
}
