import { parse, validate } from 'graphql';
import { expect, test } from 'vitest';
import { schema } from '../../../src/api/index.js';
import { operationLimits } from '../../../src/server/limits.js';

const LIMITS = { maxTokens: 1000, maxDepth: 5, maxAliases: 3, maxCost: 100 };
const problems = (source: string) =>
  validate(schema, parse(source), [operationLimits(LIMITS)]).map(({ message }) => message);

test('lets ordinary operations pass, introspection included', () => {
  expect(problems('{ service { version devices { name load } } }')).toEqual([]);
  expect(problems('{ __schema { types { fields { type { ofType { ofType { ofType { name } } } } } } } }')).toEqual([]);
});

test('refuses what is too deep, also through fragments', () => {
  const deep =
    'fragment F on Session { model { id } timeline { prompt } } { sessions { ... on SessionConnection { edges { node { ...F } } } } }';
  expect(problems(deep)).toEqual([]);
  expect(problems('{ a { b { c { d { e { f } } } } } }')).toEqual([
    expect.stringContaining('depth of 6 exceeds the limit of 5'),
  ]);
});

test('refuses many aliases', () => {
  expect(problems('{ a: models { id } b: models { id } c: models { id } d: models { id } }')).toEqual([
    expect.stringContaining('number of aliases of 4'),
  ]);
});

test('counts what stands under a list once per item', () => {
  expect(problems('{ sessions(first: 10) { ... on SessionConnection { nodes { id state } } } }')).toEqual([]);
  expect(problems('{ sessions(first: 50) { ... on SessionConnection { nodes { id state } } } }')).toEqual([
    expect.stringContaining('cost of 151'),
  ]);
});

test('survives circular fragments', () => {
  expect(
    problems('fragment A on Session { ...B } fragment B on Session { ...A } { session(id: "x") { ...A } }'),
  ).toEqual([]);
});
