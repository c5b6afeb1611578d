/** The schema as a page for people: what can be asked first, then the types that it takes and gives. */
import {
  type GraphQLArgument,
  type GraphQLField,
  type GraphQLInputField,
  type GraphQLNamedType,
  type GraphQLObjectType,
  type GraphQLSchema,
  astFromValue,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isObjectType,
  isScalarType,
  isSpecifiedScalarType,
  isUnionType,
  print,
} from 'graphql';

const HEAD = `# GraphQL reference

Made from the schema by \`npm run schema\`. What clients may rely on beyond types (order, retries, limits, signed URLs) is in
[protocol.md](protocol.md); the same in the schema language: [schema/schema.graphql](../schema/schema.graphql).
`;

type Field = GraphQLField<unknown, unknown>;

export function graphqlPage(schema: GraphQLSchema): string {
  const types = Object.values(schema.getTypeMap()).filter(
    (type) => !type.name.startsWith('__') && !isSpecifiedScalarType(type),
  );
  const roots = [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()];
  const operations = roots.flatMap((root) => (root ? section(root.name, operationsOf(root)) : []));
  const objects = types.filter((type) => isObjectType(type) && !roots.includes(type));
  const implementing = (name: string) =>
    objects.filter((type) => isObjectType(type) && type.getInterfaces().some((each) => each.name === name));
  const [events, errors] = [implementing('SessionEvent'), implementing('Error')];
  const others = objects.filter((type) => !events.includes(type) && !errors.includes(type));
  return [
    HEAD,
    ...operations,
    ...section('Objects', others.map(describe)),
    ...section('Events of a stream', events.map(describe)),
    ...section('Errors', errors.map(describe)),
    ...section('Inputs', types.filter(isInputObjectType).map(describe)),
    ...section('Enums', types.filter(isEnumType).map(describe)),
    ...section('Unions', types.filter(isUnionType).map(describe)),
    ...section('Interfaces', types.filter(isInterfaceType).map(describe)),
    ...section('Scalars', types.filter(isScalarType).map(describe)),
  ].join('\n');
}

const section = (title: string, parts: string[]): string[] =>
  parts.length === 0 ? [] : [`## ${title}\n`, ...parts.sort()];

function operationsOf(root: GraphQLObjectType): string[] {
  return Object.values(root.getFields()).map((field) =>
    paragraphs(`### ${root.name}.${field.name}`, told(field), gives(field), field.args.length > 0 && table(field.args)),
  );
}

function gives(field: Field): string {
  const type = getNamedType(field.type);
  const members = isUnionType(type) ? `: ${type.getTypes().map(linked).join(', ')}` : '';
  return `Gives ${typeOf(field)}${members}.`;
}

function describe(type: GraphQLNamedType): string {
  return paragraphs(`### ${type.name}`, told(type), body(type));
}

const paragraphs = (...parts: (string | false)[]): string => `${parts.filter(Boolean).join('\n\n')}\n`;

function body(type: GraphQLNamedType): string {
  if (isObjectType(type) || isInterfaceType(type) || isInputObjectType(type))
    return table(Object.values<Field | GraphQLInputField>(type.getFields()));
  if (isUnionType(type)) return type.getTypes().map(linked).join(', ');
  if (!isEnumType(type)) return '';
  const rows = type.getValues().map((value) => `| \`${value.name}\` | ${told(value)} |`);
  return ['| value | meaning |', '|---|---|', ...rows].join('\n');
}

function table(fields: readonly (Field | GraphQLInputField | GraphQLArgument)[]): string {
  const rows = fields.map((field) => {
    const takes = 'args' in field && field.args.length > 0 ? ` (${field.args.map(({ name }) => name).join(', ')})` : '';
    return `| \`${field.name}\`${takes} | ${typeOf(field)} | ${told(field)} |`;
  });
  return ['| name | type | meaning |', '|---|---|---|', ...rows].join('\n');
}

/** With its wrapping (`[Model!]!`), the name a link to the type. */
function typeOf({ type }: Field | GraphQLInputField | GraphQLArgument): string {
  const named = getNamedType(type);
  return String(type).replace(named.name, linked(named));
}

const linked = (type: GraphQLNamedType): string =>
  isSpecifiedScalarType(type) ? type.name : `[${type.name}](#${type.name.toLowerCase()})`;

interface Told {
  description?: string | null | undefined;
  deprecationReason?: string | null | undefined;
}

function told(thing: Told | GraphQLArgument | GraphQLInputField): string {
  const fallback = 'defaultValue' in thing ? astFromValue(thing.defaultValue, thing.type) : undefined;
  const parts = [
    thing.deprecationReason && `**Deprecated:** ${thing.deprecationReason}`,
    thing.description?.replaceAll('\n', ' ').replaceAll('|', '\\|'),
    fallback && `Default: \`${print(fallback)}\`.`,
  ];
  return parts.filter(Boolean).join(' ');
}
