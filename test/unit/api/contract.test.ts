import { readFileSync } from 'node:fs';
import { buildSchema, findBreakingChanges, findDangerousChanges } from 'graphql';
import { describe, expect, test } from 'vitest';
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

test('every type of the contract that a reader must understand has a description', () => {
  const silent = [
    'Session',
    'Model',
    'Artifact',
    'SwitchReceipt',
    'FrameChunk',
    'PromptApplied',
    'Heartbeat',
    'SessionEnded',
  ];
  expect(silent.filter((name) => !schema.getType(name)?.description)).toEqual([]);
});
