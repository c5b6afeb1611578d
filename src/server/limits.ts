import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  getArgumentValues,
  getNamedType,
  getOperationAST,
  getVariableValues,
  GraphQLError,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLSchema,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isListType,
  isNonNullType,
  isObjectType,
  Kind,
  type SelectionNode,
  type SelectionSetNode,
} from 'graphql';
import type { FieldWeight, ListSize } from '../api/index.js';

export interface OperationLimits {
  maxDocumentBytes: number;
  maxTokens: number;
  maxDepth: number;
  maxAliases: number;
  /** Fields of the answer at most: what stands under a list counts once per item. */
  maxCost: number;
}

/** Lists that do not say how long they may be. */
const UNKNOWN_LENGTH = 10;

/** Fields of an introspection cost a part of others: nothing is read for them. The usual one must pass. */
const INTROSPECTION_SHARE = 1 / 12;

interface Measure {
  depth: number;
  aliases: number;
  cost: number;
}

const NOTHING: Measure = { depth: 0, aliases: 0, cost: 0 };

export interface Operation {
  schema: GraphQLSchema;
  document: DocumentNode;
  operationName?: string | null | undefined;
  variableValues?: Readonly<Record<string, unknown>> | null | undefined;
}

/**
 * Why an operation is not carried out: too deep, too aliased or, with these values of its variables, too costly. Nothing
 * when it is fit, or when it cannot be executed anyway. The document has been validated.
 */
export function refusals(operation: Operation, limits: OperationLimits): GraphQLError[] {
  return judge(operation, limits).errors;
}

/** The same, and what it costs. */
export function judge(operation: Operation, limits: OperationLimits): { errors: GraphQLError[]; cost: number } {
  const measure = measureOperation(operation) ?? NOTHING;
  return { errors: refusalsOf(measure, limits), cost: Math.ceil(measure.cost) };
}

function refusalsOf(measure: Measure, limits: OperationLimits): GraphQLError[] {
  const refusal = (what: string, is: number, limit: number, advice: string) =>
    is <= limit
      ? []
      : new GraphQLError(`The operation's ${what} of ${is} exceeds the limit of ${limit}; ${advice}.`, {
          extensions: { code: 'OPERATION_LIMIT', limit, is, http: { status: 400, spec: true } },
        });
  return [
    refusal('depth', measure.depth, limits.maxDepth, 'ask for fewer levels'),
    refusal('number of aliases', measure.aliases, limits.maxAliases, 'split it into several operations'),
    refusal('cost', Math.ceil(measure.cost), limits.maxCost, 'ask for fewer fields or shorter pages'),
  ].flat();
}

function measureOperation({ schema, document, operationName, variableValues }: Operation): Measure | undefined {
  const operation = getOperationAST(document, operationName);
  const root = operation && schema.getRootType(operation.operation);
  if (!root) return undefined;
  const variables = getVariableValues(schema, operation.variableDefinitions ?? [], variableValues ?? {}, {
    maxErrors: 1,
  });
  if (variables.errors) return undefined; // Execution says so.
  return new Measurer(schema, document, variables.coerced).set(operation.selectionSet, root);
}

class Measurer {
  private readonly definitions: Map<string, FragmentDefinitionNode>;
  private readonly fragments = new Map<string, Measure>();

  constructor(
    private readonly schema: GraphQLSchema,
    document: DocumentNode,
    private readonly variables: Record<string, unknown>,
  ) {
    const fragments = document.definitions.filter((node) => node.kind === Kind.FRAGMENT_DEFINITION);
    this.definitions = new Map(fragments.map((node) => [node.name.value, node]));
  }

  set(set: SelectionSetNode, type: GraphQLNamedType | undefined): Measure {
    return set.selections.map((selection) => this.selection(selection, type)).reduce(add, NOTHING);
  }

  private selection(node: SelectionNode, type: GraphQLNamedType | undefined): Measure {
    if (node.kind === Kind.FIELD) return this.field(node, type);
    if (node.kind === Kind.FRAGMENT_SPREAD) return this.fragment(node.name.value);
    const condition = node.typeCondition?.name.value;
    return this.set(node.selectionSet, condition === undefined ? type : this.schema.getType(condition));
  }

  private field(node: FieldNode, type: GraphQLNamedType | undefined): Measure {
    if (node.name.value === '__schema' || node.name.value === '__type') {
      const inner = this.introspection(node);
      return { depth: 1, aliases: inner.aliases, cost: 1 + inner.cost * INTROSPECTION_SHARE };
    }
    const aliases = node.alias ? 1 : 0;
    const field = isObjectType(type) || isInterfaceType(type) ? type.getFields()[node.name.value] : undefined;
    const inner = node.selectionSet ? this.set(node.selectionSet, field && getNamedType(field.type)) : NOTHING;
    const { items, each, once } = field ? this.weight(field, node) : { items: 1, each: 0, once: 0 };
    const cost = 1 + once + items * (each + inner.cost);
    return { depth: inner.depth + 1, aliases: aliases + inner.aliases, cost };
  }

  private weight(field: GraphQLField<unknown, unknown>, node: FieldNode): Record<keyof FieldWeight, number> {
    const { items, each = 0, once = 0 } = field.extensions as Partial<FieldWeight>;
    const asked = (size: ListSize) =>
      typeof size === 'function' ? size(getArgumentValues(field, node, this.variables)) : size;
    return { items: asked(items ?? (isList(field) ? UNKNOWN_LENGTH : 1)), each, once: asked(once) };
  }

  /** Nesting is bounded by a rule of GraphQL itself (MaxIntrospectionDepthRule), and types of types are many levels. */
  private introspection(node: FieldNode): Measure {
    const inner = node.selectionSet ? this.introspectionSet(node.selectionSet) : NOTHING;
    return {
      depth: 0,
      aliases: inner.aliases + (node.alias ? 1 : 0),
      cost: 1 + inner.cost * (listLengths(this.schema)[node.name.value] ?? 1),
    };
  }

  private introspectionSet(set: SelectionSetNode): Measure {
    return set.selections
      .map((selection) => {
        if (selection.kind === Kind.FIELD) return this.introspection(selection);
        if (selection.kind === Kind.INLINE_FRAGMENT) return this.introspectionSet(selection.selectionSet);
        return this.remembered(selection.name.value, (fragment) => this.introspectionSet(fragment.selectionSet));
      })
      .reduce(add, NOTHING);
  }

  private fragment(name: string): Measure {
    return this.remembered(name, ({ selectionSet, typeCondition }) =>
      this.set(selectionSet, this.schema.getType(typeCondition.name.value)),
    );
  }

  /** A fragment is measured once however often it is spread: a document doubles its size with every level otherwise. */
  private remembered(name: string, measure: (fragment: FragmentDefinitionNode) => Measure): Measure {
    const known = this.fragments.get(name);
    if (known) return known;
    const fragment = this.definitions.get(name);
    const measured = fragment ? measure(fragment) : NOTHING;
    this.fragments.set(name, measured);
    return measured;
  }
}

function add(a: Measure, b: Measure): Measure {
  return { depth: Math.max(a.depth, b.depth), aliases: a.aliases + b.aliases, cost: a.cost + b.cost };
}

function isList({ type }: GraphQLField<unknown, unknown>): boolean {
  return isListType(isNonNullType(type) ? type.ofType : type);
}

const lengths = new WeakMap<GraphQLSchema, Record<string, number>>();

/** How long the lists of an introspection are: those of types by their number, those in them on average. */
function listLengths(schema: GraphQLSchema): Record<string, number> {
  const known = lengths.get(schema) ?? measureLists(schema);
  lengths.set(schema, known);
  return known;
}

function measureLists(schema: GraphQLSchema): Record<string, number> {
  const types = Object.values(schema.getTypeMap());
  const composites = types.filter((type) => isObjectType(type) || isInterfaceType(type));
  const fields = composites.flatMap((type) => Object.values(type.getFields()));
  const inputs = types.filter(isInputObjectType);
  const enums = types.filter(isEnumType);
  return {
    types: types.length,
    directives: schema.getDirectives().length,
    fields: average(fields.length, composites.length),
    args: average(fields.flatMap(({ args }) => args).length, fields.length),
    inputFields: average(inputs.flatMap((type) => Object.values(type.getFields())).length, types.length),
    enumValues: average(enums.flatMap((type) => type.getValues()).length, types.length),
    possibleTypes: 1,
    interfaces: 1,
  };
}

const average = (all: number, of: number) => Math.ceil(all / Math.max(1, of));
