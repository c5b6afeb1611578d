import type { ObjectRef } from '@pothos/core';
import { builder, type SchemaTypes } from './builder.js';
import { weigh } from './paging.js';

/** A page of a connection that goes forward. */
export interface Connected<Node> {
  edges: { node: Node; cursor: string }[];
  /** Where the next page begins; absent on the last one. */
  next?: string | undefined;
}

/** `<name>Connection` and `<name>Edge` over a type. */
export function connectionOf<Node>(
  name: string,
  node: ObjectRef<PothosSchemaTypes.ExtendDefaultTypes<SchemaTypes>, Node>,
  description: string,
) {
  const Edge = builder.objectRef<{ node: Node; cursor: string }>(`${name}Edge`).implement({
    description: 'An item of a page, with its place in the list.',
    fields: (t) => ({
      node: t.field({ description: 'The item.', type: node, resolve: (edge) => edge.node as never }),
      cursor: t.exposeString('cursor', { description: 'Pass it as `after` to get what follows.' }),
    }),
  });
  // How many there are counts where the page is asked for.
  return builder.objectRef<Connected<Node>>(`${name}Connection`).implement({
    description,
    fields: (t) => ({
      edges: t.field({
        description: 'The items of this page, each with its cursor.',
        type: [Edge],
        ...weigh(1),
        resolve: ({ edges }) => edges,
      }),
      nodes: t.field({
        description: 'The items of this page.',
        type: [node],
        ...weigh(1),
        resolve: ({ edges }) => edges.map((edge) => edge.node) as never,
      }),
      pageInfo: t.field({
        description: 'Where this page ends, and whether more follows.',
        type: builder.pageInfoRef(),
        resolve: ({ edges, next }) => ({
          startCursor: edges[0]?.cursor ?? null,
          endCursor: next ?? edges.at(-1)?.cursor ?? null,
          hasNextPage: next !== undefined,
          hasPreviousPage: false,
        }),
      }),
    }),
  });
}
