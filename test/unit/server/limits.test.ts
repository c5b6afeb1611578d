import { getIntrospectionQuery, isListType, isNonNullType, isObjectType, parse } from 'graphql';
import { expect, test } from 'vitest';
import { schema } from '../../../src/api/index.js';
import { refusals } from '../../../src/server/limits.js';

const LIMITS = { maxDocumentBytes: 1e6, maxTokens: 1000, maxDepth: 5, maxAliases: 3, maxCost: 300 };
const problems = (source: string, variableValues: Record<string, unknown> = {}, limits: object = {}) =>
  refusals({ schema, document: parse(source), variableValues }, { ...LIMITS, ...limits }).map(({ message }) => message);
const cost = (source: string, variables: Record<string, unknown> = {}) =>
  Number(
    /cost of (\d+)/.exec(problems(source, variables, { maxCost: -1, maxDepth: 99, maxAliases: 99 }).at(-1) ?? '')?.[1],
  );

test('lets ordinary operations pass', () => {
  expect(problems('{ service { version devices { name load } } }')).toEqual([]);
  expect(problems('{ __schema { types { name } } }')).toEqual([]);
});

test('refuses what is too deep, also through fragments', () => {
  const deep =
    'fragment F on Session { model { id } } { sessions(first: 1) { ... on SessionConnection { edges { node { ...F } } } } }';
  expect(problems(deep)).toEqual([]);
  expect(problems(deep, {}, { maxDepth: 4 })).toEqual([expect.stringContaining('depth of 5 exceeds the limit of 4')]);
});

test('refuses many aliases, introspection included', () => {
  const message = expect.stringContaining('number of aliases of 4') as string;
  expect(problems('{ a: models { id } b: models { id } c: models { id } d: models { id } }')).toEqual([message]);
  const schemas = ['a', 'b', 'c', 'd'].map((name) => `${name}: __schema { queryType { name } }`).join(' ');
  expect(problems(`{ ${schemas} }`)).toEqual([message]);
  expect(problems(`{ __type(name: "Session") { a: name b: name c: name d: name } }`)).toEqual([message]);
});

test('counts what stands under a list once per item, as the variables say', () => {
  const sessions = 'query ($n: Int) { sessions(first: $n) { ... on SessionConnection { nodes { id } } } }';
  const one = 10 + 1 + 1;
  expect(cost(sessions, { n: 1 })).toBe(1 + one);
  expect(cost(sessions, { n: 50 })).toBe(1 + 50 * one);
  expect(cost(sessions)).toBe(1 + 20 * one);
  expect(cost(sessions, { n: 5000 })).toBe(1 + 100 * one);
  expect(cost('query ($n: Int = 7) { sessions(first: $n) { ... on SessionConnection { nodes { id } } } }')).toBe(
    1 + 7 * one,
  );
  expect(cost('{ sessions { ... on SessionConnection { nodes { id } } } }')).toBe(1 + 20 * one);
  expect(cost('{ sessions(search: "fox") { ... on SessionConnection { nodes { id } } } }')).toBe(501 + 20 * one);
  const nodes = 'query ($i: [ID!]!) { nodes(ids: $i) { id } }';
  expect(cost(nodes, { i: ['Session:a', 'Session:b', 'Session:a'] })).toBe(1 + 3 * 11);
  expect(cost(nodes, { i: Array(7000).fill('Session:a') })).toBe(1 + 100 * 11);
  expect(cost('{ nodes(ids: "Session:a") { id } }')).toBe(1 + 11);
});

test('counts the lists of a session, old and new', () => {
  const session = (inner: string) => cost(`{ session(id: "x") { ... on Session { ${inner} } } }`);
  const rest = 1 + 10;
  expect(session('receipts { id }')).toBe(rest + 1 + 100);
  expect(session('timeline { prompt block }')).toBe(rest + 1 + 200);
  expect(session('promptReceipts(first: 3) { nodes { id } }')).toBe(rest + 1 + 3 * 2);
  expect(session('timelineEntries { edges { node { prompt } } }')).toBe(rest + 1 + 20 * 3);
  expect(session('artifacts { url }')).toBe(rest + 1 + 4);
});

test('counts a fragment as often as it is spread, in no time', () => {
  const fragment = 'fragment F on Session { receipts { id } }';
  expect(cost(`${fragment} { session(id: "x") { ...F ...F } }`)).toBe(11 + 2 * 101);
  const levels = Array.from({ length: 80 }, (_, i) => `fragment F${i} on Session { ...F${i + 1} ...F${i + 1} }`);
  const bomb = `${levels.join(' ')} fragment F80 on Session { id } { session(id: "x") { ...F0 } }`;
  expect(problems(bomb)[0]).toContain('exceeds the limit of 300');
});

test('lets the usual introspection pass by default, and not many of them', () => {
  const limits = { maxDepth: 12, maxAliases: 15, maxCost: 5000 };
  const usual = getIntrospectionQuery({ inputValueDeprecation: true, specifiedByUrl: true, schemaDescription: true });
  expect(problems(usual, {}, limits)).toEqual([]);
  const nested =
    '__schema { types { name fields { name args { name type { name } } type { name ofType { name ofType { name } } } } } }';
  const fifteen = Array.from({ length: 15 }, (_, i) => `a${i}: ${nested}`).join(' ');
  expect(problems(`{ ${fifteen} }`, {}, limits)).toEqual([expect.stringContaining('cost')]);
  expect(problems(`{ ${fifteen} }`, {}, { ...limits, maxCost: 1e6 })).toEqual([]);
});

test('only measures the operation that is carried out', () => {
  const document = parse(
    'query A { models { id } } query B { a: models { id } b: models { id } c: models { id } d: models { id } }',
  );
  expect(refusals({ schema, document, operationName: 'A' }, LIMITS)).toEqual([]);
  expect(refusals({ schema, document, operationName: 'B' }, LIMITS)).toHaveLength(1);
  expect(refusals({ schema, document, operationName: 'C' }, LIMITS)).toEqual([]);
});

test('every list of the schema says how long it may be', () => {
  const silent = Object.values(schema.getTypeMap())
    .filter((type) => isObjectType(type) && !type.name.startsWith('__'))
    .flatMap((type) => (isObjectType(type) ? Object.values(type.getFields()).map((field) => ({ type, field })) : []))
    .filter(({ field }) => isListType(isNonNullType(field.type) ? field.type.ofType : field.type))
    .filter(({ field }) => field.extensions['items'] === undefined)
    .map(({ type, field }) => `${type.name}.${field.name}`);
  expect(silent).toEqual([]);
});
