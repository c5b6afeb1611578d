/** The generated module of the Python client: texts of the operations, and a class for every type that their answers have. */
import {
  type DocumentNode,
  getNamedType,
  type GraphQLEnumType,
  type GraphQLInterfaceType,
  type GraphQLObjectType,
  type GraphQLSchema,
  isEnumType,
  isListType,
  isNonNullType,
  isObjectType,
  type GraphQLOutputType,
  TypeInfo,
  visit,
  visitWithTypeInfo,
} from 'graphql';

/** What Python programs call what the schema has another name for, as in TypeScript. */
const NAMES: Readonly<Record<string, string>> = {
  FrameChunk: 'ChunkEvent',
  PromptRequested: 'RequestedEvent',
  PromptApplied: 'AppliedEvent',
  PromptSuperseded: 'SupersededEvent',
  PromptMoved: 'MovedEvent',
  PromptCancelled: 'CancelledEvent',
  StateChanged: 'StateEvent',
  Heartbeat: 'HeartbeatEvent',
  SessionEnded: 'EndedEvent',
  Session: 'SessionFacts',
  SwitchReceipt: 'ReceiptFacts',
  Service: 'ServiceFacts',
};

const SCALARS: Readonly<Record<string, string>> = { Float: 'float', Int: 'int', Boolean: 'bool' };
const ROOTS: ReadonlySet<string> = new Set(['Query', 'Mutation', 'Subscription']);

/** `session.prompts()` joins two lists of a session, which programs in Python have in its events. */
const LEFT_OUT = 'GetPrompts';

const snake = (name: string) => name.replace(/(?<=[a-z0-9])(?=[A-Z])/g, '_').toLowerCase();
const nameOf = (name: string) => NAMES[name] ?? name;
const eventType = (name: string) => nameOf(name).replace('Event', '').toLowerCase();

export function pythonModule(
  schema: GraphQLSchema,
  operations: DocumentNode,
  texts: Readonly<Record<string, string>>,
  errors: ReadonlyMap<GraphQLObjectType, readonly string[]>,
): string {
  const isWanted = (name: string | undefined) => name !== LEFT_OUT;
  const document: DocumentNode = {
    ...operations,
    definitions: operations.definitions.filter((each) => !('name' in each) || isWanted(each.name?.value)),
  };
  const types = [...selected(schema, document)].sort(([a], [b]) => (a.name < b.name ? -1 : 1));
  const plain = types.filter(([type]) => !errors.has(type));
  const enums = new Set(plain.flatMap(([type, fields]) => [...fields].map((field) => getNamedType(type.getFields()[field]!.type)))); // prettier-ignore
  const literals = [...enums].filter(isEnumType).sort((a, b) => (a.name < b.name ? -1 : 1));
  const events = plain.filter(([{ name }]) => nameOf(name).endsWith('Event'));
  return [
    '# Made from schema/schema.graphql by `npm run schema`; do not edit.',
    'from __future__ import annotations',
    '',
    'from dataclasses import dataclass',
    'from typing import ClassVar, Literal, Union',
    '',
    'from ._errors import ServiceError',
    '',
    '__all__ = [',
    ...[...literals, ...plain.map(([type]) => type), ...errors.keys()].map(({ name }) => `    "${nameOf(name)}",`),
    '    "SessionEvent",',
    ']',
    '',
    ...literals.map(literalOf),
    ...plain.flatMap(([type, fields]) => ['', '', ...classOf(type, [...fields])]),
    ...[...errors].flatMap(([type, codes]) => ['', '', ...errorOf(type, codes)]),
    '',
    '',
    `SessionEvent = Union[${events.map(([{ name }]) => nameOf(name)).filter((name) => name !== 'HeartbeatEvent').join(', ')}]`, // prettier-ignore
    '',
    `EVENTS = {${events.map(([{ name }]) => `"${name}": ${nameOf(name)}`).join(', ')}}`,
    '',
    `ERRORS = {${[...errors.keys()].map(({ name }) => `"${name}": ${name}`).join(', ')}}`,
    '',
    'OPERATIONS = {',
    ...Object.entries(texts)
      .filter(([name]) => isWanted(name))
      .map(([name, text]) => `    "${name}": ${JSON.stringify(text)},`),
    '}',
    '',
  ].join('\n');
}

/** The fields that the operations ask for, by type. */
function selected(schema: GraphQLSchema, document: DocumentNode): Map<GraphQLObjectType, Set<string>> {
  const found = new Map<GraphQLObjectType, Set<string>>();
  const info = new TypeInfo(schema);
  visit(
    document,
    visitWithTypeInfo(info, {
      Field({ name: { value } }) {
        const type = info.getParentType();
        if (!isObjectType(type) || ROOTS.has(type.name) || value === '__typename') return;
        found.set(type, (found.get(type) ?? new Set()).add(value));
      },
    }),
  );
  return found;
}

const literalOf = (type: GraphQLEnumType) =>
  `${type.name} = Literal[${type.getValues().map(({ name }) => `"${name}"`).join(', ')}]`; // prettier-ignore

function classOf(type: GraphQLObjectType, fields: readonly string[]): string[] {
  const isEvent = nameOf(type.name).endsWith('Event');
  return [
    '@dataclass(frozen=True)',
    `class ${nameOf(type.name)}:`,
    `    """${oneLine(type)}"""`,
    '',
    ...fields.map((name) => `    ${snake(name)}: ${typeOf(type.getFields()[name]!.type)}`),
    ...(isEvent ? [`    type: ClassVar[Literal["${eventType(type.name)}"]] = "${eventType(type.name)}"`] : []),
  ];
}

function errorOf(type: GraphQLObjectType, codes: readonly string[]): string[] {
  const more = Object.values(type.getFields()).filter(({ name }) => name !== 'code' && name !== 'message');
  return [
    'class ' + type.name + '(ServiceError):',
    `    """${oneLine(type, `Codes: ${codes.join(', ')}.`)}"""`,
    ...more.flatMap(({ name, type: of }) => ['', `    ${snake(name)}: ${typeOf(of)}`]),
  ];
}

const oneLine = ({ description }: GraphQLObjectType | GraphQLInterfaceType, otherwise = '') =>
  (description ?? otherwise).replace(/\s+/g, ' ').replaceAll('"', "'");

function typeOf(type: GraphQLOutputType): string {
  if (isNonNullType(type)) return bare(type.ofType);
  return `${bare(type)} | None`;
}

function bare(type: GraphQLOutputType): string {
  if (isListType(type)) return `list[${typeOf(type.ofType as GraphQLOutputType)}]`;
  if (isNonNullType(type)) return bare(type.ofType);
  if (isEnumType(type)) return type.name;
  if (isObjectType(type)) return nameOf(type.name);
  return SCALARS[getNamedType(type).name] ?? 'str';
}
