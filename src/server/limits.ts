import {
  Kind,
  type ASTVisitor,
  type FieldNode,
  type FragmentDefinitionNode,
  GraphQLError,
  type OperationDefinitionNode,
  type SelectionNode,
  type SelectionSetNode,
  type ValidationContext,
  type ValidationRule,
} from 'graphql';

export interface OperationLimits {
  maxTokens: number;
  maxDepth: number;
  maxAliases: number;
  /** Fields, where what stands under a list counts once per requested item. */
  maxCost: number;
}

/** Assumed length of a list when `first`, `last` or `ids` is a variable, whose value is not known before execution. */
const UNKNOWN_LENGTH = 20;

interface Measure {
  depth: number;
  aliases: number;
  cost: number;
}

const NOTHING: Measure = { depth: 0, aliases: 0, cost: 0 };

/** A validation rule: refuses operations that are too deep, too aliased or too costly, before anything is executed. */
export function operationLimits(limits: OperationLimits): ValidationRule {
  return (context: ValidationContext): ASTVisitor => ({
    OperationDefinition(operation: OperationDefinitionNode) {
      const measure = new Measurer(context).operation(operation);
      const refuse = (what: string, is: number, limit: number, advice: string) => {
        if (is > limit) {
          const message = `The operation's ${what} of ${is} exceeds the limit of ${limit}; ${advice}.`;
          context.reportError(
            new GraphQLError(message, { nodes: operation, extensions: { code: 'OPERATION_LIMIT', limit, is } }),
          );
        }
      };
      refuse('depth', measure.depth, limits.maxDepth, 'ask for fewer levels');
      refuse('number of aliases', measure.aliases, limits.maxAliases, 'split it into several operations');
      refuse('cost', measure.cost, limits.maxCost, 'ask for fewer fields or shorter pages');
    },
  });
}

class Measurer {
  private readonly fragments = new Map<string, Measure>();
  private readonly open = new Set<string>();

  constructor(private readonly context: ValidationContext) {}

  operation(operation: OperationDefinitionNode): Measure {
    return this.set(operation.selectionSet);
  }

  private set(set: SelectionSetNode): Measure {
    return set.selections.map((selection) => this.selection(selection)).reduce(add, NOTHING);
  }

  private selection(node: SelectionNode): Measure {
    if (node.kind === Kind.INLINE_FRAGMENT) return this.set(node.selectionSet);
    if (node.kind === Kind.FRAGMENT_SPREAD) return this.fragment(node.name.value);
    if (node.name.value.startsWith('__')) return NOTHING;
    const inner = node.selectionSet ? this.set(node.selectionSet) : NOTHING;
    return {
      depth: inner.depth + 1,
      aliases: inner.aliases + (node.alias ? 1 : 0),
      cost: 1 + inner.cost * listLength(node),
    };
  }

  private fragment(name: string): Measure {
    const known = this.fragments.get(name);
    if (known) return known;
    const fragment: FragmentDefinitionNode | null | undefined = this.context.getFragment(name);
    if (!fragment || this.open.has(name)) return NOTHING; // Other rules report unknown and circular fragments.
    this.open.add(name);
    const measure = this.set(fragment.selectionSet);
    this.open.delete(name);
    this.fragments.set(name, measure);
    return measure;
  }
}

function add(a: Measure, b: Measure): Measure {
  return { depth: Math.max(a.depth, b.depth), aliases: a.aliases + b.aliases, cost: a.cost + b.cost };
}

function listLength(field: FieldNode): number {
  const length = field.arguments?.find(({ name }) => ['first', 'last', 'ids'].includes(name.value))?.value;
  if (length?.kind === Kind.INT) return Math.max(1, Number(length.value));
  if (length?.kind === Kind.LIST) return Math.max(1, length.values.length);
  return length?.kind === Kind.VARIABLE ? UNKNOWN_LENGTH : 1;
}
