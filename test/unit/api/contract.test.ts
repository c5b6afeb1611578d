import { readFileSync } from 'node:fs';
import {
  buildSchema,
  findBreakingChanges,
  findDangerousChanges,
  type GraphQLField,
  type GraphQLInputField,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isObjectType,
  isSpecifiedScalarType,
} from 'graphql';
import { describe, expect, test } from 'vitest';
import { withScopeTable } from '../../../scripts/scope-table.js';
import { graphqlPage } from '../../../scripts/graphql-reference.js';
import { printContract, schema } from '../../../src/api/index.js';

const committed = readFileSync(new URL('../../../schema/schema.graphql', import.meta.url), 'utf8');

test('the code breaks no client of the committed contract', () => {
  expect(findBreakingChanges(buildSchema(committed), schema)).toEqual([]);
});

test('the committed contract is the one of the code', () => {
  const dangerous = findDangerousChanges(buildSchema(committed), schema).map(({ description }) => description);
  expect(printContract(), `run "npm run schema" and review the difference\n${dangerous.join('\n')}`).toBe(committed);
});

test('the table of scopes is the one of the code (npm run schema)', () => {
  const page = readFileSync(new URL('../../../docs/security.md', import.meta.url), 'utf8');
  expect(withScopeTable(page, schema)).toBe(page);
});

describe('the reference of the schema', () => {
  const page = graphqlPage(schema);

  test('is what the code says (npm run schema)', () => {
    expect(readFileSync(new URL('../../../docs/graphql.md', import.meta.url), 'utf8')).toBe(page);
  });

  test('has a heading for each type and operation, of which no two are alike, and links to nothing else', () => {
    const anchors = [...page.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
      title.toLowerCase().replaceAll(' ', '-').replaceAll('.', ''),
    );
    expect(new Set(anchors).size).toBe(anchors.length);
    const linked = [...page.matchAll(/\(#([^)]*)\)/g)].map(([, anchor = '']) => anchor);
    expect(linked.filter((anchor) => !anchors.includes(anchor))).toEqual([]);
    const operations = [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()].flatMap((root) =>
      Object.keys(root?.getFields() ?? {}).map((field) => `${root?.name}${field}`.toLowerCase()),
    );
    expect(operations.filter((each) => !anchors.includes(each))).toEqual([]);
  });
});

test('every expected failure is an Error, and every event has a cursor', () => {
  const members = schema.getType('SessionStreamResult');
  const names = schema.getPossibleTypes(members as never).map(({ name }) => name);
  const kinds = ['Error', 'SessionEvent'].flatMap((name) => schema.getPossibleTypes(schema.getType(name) as never));
  expect(names.filter((name) => !kinds.some((kind) => kind.name === name))).toEqual([]);
});

test('every type, field, argument and value of the contract has a description', () => {
  const own = Object.values(schema.getTypeMap()).filter(
    (type) => !isIntrospectionType(type) && !isSpecifiedScalarType(type),
  );
  const parts = own.flatMap((type): Described[] => [
    [type.name, type],
    ...(isEnumType(type) ? type.getValues().map((value) => [`${type.name}.${value.name}`, value] as Described) : []),
    ...(isInputObjectType(type) || isObjectType(type) || isInterfaceType(type)
      ? Object.values<AnyField>(type.getFields()).flatMap((field) => partsOf(type.name, field))
      : []),
  ]);
  expect(parts.filter(([, { description }]) => !description?.trim().endsWith('.')).map(([name]) => name)).toEqual([]);
});

type AnyField = GraphQLField<unknown, unknown> | GraphQLInputField;
type Described = [string, { description?: string | null }];

function partsOf(type: string, field: AnyField): Described[] {
  const args = 'args' in field ? field.args : [];
  const name = `${type}.${field.name}`;
  return [[name, field], ...args.map((argument): Described => [`${name}(${argument.name})`, argument])];
}
