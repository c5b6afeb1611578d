/** Operations that follow the schema often enough to reach what is behind validation, and break it in every place. */

import fc from 'fast-check';
import {
  buildSchema,
  getNamedType,
  type GraphQLArgument,
  type GraphQLInputType,
  type GraphQLNamedType,
  isCompositeType,
  isEnumType,
  isInputObjectType,
  isListType,
  isNonNullType,
  isObjectType,
  isUnionType,
} from 'graphql';

interface Argument {
  name: string;
  type: string;
  value: unknown;
  inline: boolean;
}

interface Field {
  name: string;
  alias: string | undefined;
  args: Argument[];
  /** A type condition for each group; none for the type's own fields. */
  children: Selection[];
}

interface Selection {
  on: string | undefined;
  fields: Field[];
}

export interface Operation {
  query: string;
  variables: Record<string, unknown>;
  operationName?: unknown;
  extensions?: unknown;
}

const DEEPEST = 5;

/** Operations over the schema's text; ids are often those given. */
export function operations(schemaText: string, ids: readonly string[]): fc.Arbitrary<Operation> {
  const schema = buildSchema(schemaText);
  const memo = new Map<string, fc.Arbitrary<Selection[]>>();

  function selectionsOf(type: GraphQLNamedType, depth: number): fc.Arbitrary<Selection[]> {
    const key = `${type.name} ${depth}`;
    const known = memo.get(key);
    if (known) return known;
    const made = isUnionType(type)
      ? fc
          .array(fc.constantFrom(...type.getTypes(), type), { minLength: 1, maxLength: 3 })
          .chain((types) =>
            fc.tuple(...types.map((each) => fieldsOf(each, depth).map((fields) => ({ on: each.name, fields })))),
          )
      : fieldsOf(type, depth).map((fields) => [{ on: undefined, fields }]);
    memo.set(key, made);
    return made;
  }

  function fieldsOf(type: GraphQLNamedType, depth: number): fc.Arbitrary<Field[]> {
    const names = 'getFields' in type && !isInputObjectType(type) ? Object.values(type.getFields()) : [];
    const shallow = names.filter((field) => depth > 0 || !isCompositeType(getNamedType(field.type)));
    const wrong = field(fc.constantFrom('__typename', 'nothing', '__schema', '__type', 'id'));
    if (shallow.length === 0) return fc.array(wrong, { minLength: 1, maxLength: 2 });
    const right = fc.constantFrom(...shallow).chain((each) => {
      const inner = getNamedType(each.type);
      const children = isCompositeType(inner) ? selectionsOf(inner, depth - 1) : fc.constant<Selection[]>([]);
      return field(fc.constant(each.name), argumentsOf(each.args), children);
    });
    return fc.array(fc.oneof({ arbitrary: right, weight: 20 }, { arbitrary: wrong, weight: 1 }), {
      minLength: 1,
      maxLength: 4,
    });
  }

  function field(
    name: fc.Arbitrary<string>,
    args: fc.Arbitrary<Argument[]> = fc.constant([]),
    children: fc.Arbitrary<Selection[]> = fc.constant([]),
  ): fc.Arbitrary<Field> {
    const alias = fc.option(fc.constantFrom('a', 'b', 'c', '__d'), { nil: undefined, freq: 6 });
    return fc.record({ name, alias, args, children });
  }

  function argumentsOf(args: readonly GraphQLArgument[]): fc.Arbitrary<Argument[]> {
    return fc.tuple(
      ...args.map(({ name, type }) =>
        fc.record({
          name: fc.constant(name),
          type: fc.constant(String(type)),
          value: valueOf(type),
          inline: fc.boolean(),
        }),
      ),
    );
  }

  function valueOf(type: GraphQLInputType): fc.Arbitrary<unknown> {
    return fc.oneof(
      { arbitrary: rightValueOf(type), weight: 12 },
      { arbitrary: fc.jsonValue({ maxDepth: 3 }), weight: 1 },
      { arbitrary: fc.constant(null), weight: 1 },
    );
  }

  function rightValueOf(type: GraphQLInputType): fc.Arbitrary<unknown> {
    if (isNonNullType(type)) return rightValueOf(type.ofType);
    if (isListType(type)) return fc.array(rightValueOf(type.ofType), { maxLength: 300, size: '-1' });
    if (isEnumType(type)) return fc.constantFrom(...type.getValues().map(({ name }) => name), 'NONE');
    if (isInputObjectType(type)) {
      const fields = Object.values(type.getFields());
      return fc.record(Object.fromEntries(fields.map((each) => [each.name, valueOf(each.type)])), { requiredKeys: [] });
    }
    if (type.name === 'ID') return fc.oneof({ arbitrary: fc.constantFrom(...ids), weight: 5 }, texts());
    if (type.name === 'Int') return fc.oneof(fc.integer({ min: -2, max: 120 }), fc.integer(), fc.maxSafeInteger());
    if (type.name === 'Float') return fc.oneof(fc.integer({ min: -2, max: 4 }), fc.double());
    if (type.name === 'Boolean') return fc.boolean();
    return texts();
  }

  const rootOf = (type: GraphQLNamedType | null | undefined) =>
    isObjectType(type) ? selectionsOf(type, DEEPEST) : fc.constant<Selection[]>([]);
  const kinds = fc.oneof(
    { arbitrary: fc.tuple(fc.constant('query'), rootOf(schema.getQueryType())), weight: 8 },
    { arbitrary: fc.tuple(fc.constant('mutation'), rootOf(schema.getMutationType())), weight: 1 },
    { arbitrary: fc.tuple(fc.constant('subscription'), rootOf(schema.getSubscriptionType())), weight: 1 },
  );
  const strange = fc.option(fc.jsonValue({ maxDepth: 2 }), { nil: undefined, freq: 12 });
  return fc.tuple(kinds, strange, strange).map(([[kind, selections], operationName, extensions]) => ({
    ...print(kind, selections),
    ...(operationName !== undefined && { operationName }),
    ...(extensions !== undefined && { extensions }),
  }));
}

function texts(): fc.Arbitrary<string> {
  return fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.constantFrom(
      'a red fox',
      '',
      '\0',
      '\u{1b}[2J',
      'x'.repeat(5000),
      '../../etc',
      '__proto__',
      '\ud800',
      '-1',
      '1e999',
    ),
  );
}

function print(kind: string, selections: readonly Selection[]): Operation {
  const variables: Record<string, unknown> = {};
  const types: string[] = [];
  const argument = ({ name, type, value, inline }: Argument): string => {
    if (inline) return `${name}: ${literal(value)}`;
    const variable = `v${types.length}`;
    types.push(`$${variable}: ${type}`);
    variables[variable] = value;
    return `${name}: $${variable}`;
  };
  const fieldText = ({ name, alias, args, children }: Field): string =>
    (alias === undefined ? '' : `${alias}: `) +
    name +
    (args.length === 0 ? '' : `(${args.map(argument).join(', ')})`) +
    (children.length === 0 ? '' : block(children));
  const block = (groups: readonly Selection[]): string =>
    `{ ${groups
      .map(({ on, fields }) => {
        const inner = fields.map(fieldText).join(' ');
        return on === undefined ? inner : `... on ${on} { ${inner} }`;
      })
      .join(' ')} }`;
  const body = block(selections);
  return { query: `${kind} Q${types.length > 0 ? `(${types.join(', ')})` : ''} ${body}`, variables };
}

/** As it stands in a document; names are quoted nowhere, so a strange key breaks the syntax, which is fine. */
function literal(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  if (typeof value === 'object' && value !== null)
    return `{${Object.entries(value)
      .map(([key, each]) => `${key}: ${literal(each)}`)
      .join(', ')}}`;
  if (typeof value === 'string' && /^[A-Z_]+$/.test(value)) return value;
  return JSON.stringify(value) ?? 'null';
}
