import SchemaBuilder from '@pothos/core';
import ErrorsPlugin from '@pothos/plugin-errors';
import RelayPlugin from '@pothos/plugin-relay';
import type { ApiContext } from './context.js';
import { formatGlobalId, GLOBAL_ID, requireNodeIds, splitGlobalId } from './ids.js';
import { checkIds, idItems, READ, weigh } from './paging.js';

export interface SchemaTypes {
  Context: ApiContext;
  DefaultFieldNullability: false;
  Scalars: {
    ID: { Input: string; Output: string };
    DateTime: { Input: Date; Output: Date };
    Base64: { Input: Uint8Array; Output: Uint8Array };
    Seed: { Input: string | number; Output: bigint };
    Cursor: { Input: string; Output: string };
  };
}

const upperFirst = (name: string) => name.charAt(0).toUpperCase() + name.slice(1);

export const builder = new SchemaBuilder<SchemaTypes>({
  defaultFieldNullability: false,
  plugins: [ErrorsPlugin, RelayPlugin],
  errors: {
    directResult: true,
    unsafelyHandleInputErrors: true,
    defaultUnionOptions: {
      name: ({ fieldName }) => `${upperFirst(fieldName)}Result`,
      description: 'What was asked for, or why it cannot be had.',
    },
  },
  relay: {
    encodeGlobalID: (type, id) => formatGlobalId(type, String(id)),
    decodeGlobalID: splitGlobalId,
    cursorType: 'String',
    nodeTypeOptions: { description: 'Whatever has an id: it can be read again by `node`.' },
    idFieldOptions: { description: GLOBAL_ID },
    pageInfoTypeOptions: { description: 'Where a page ends, and whether more follows.' },
    startCursorFieldOptions: { description: 'Cursor of the first item of the page.' },
    endCursorFieldOptions: { description: 'Pass it as `after` to get the next page.' },
    hasNextPageFieldOptions: { description: 'Whether more items follow.' },
    hasPreviousPageFieldOptions: { description: 'Always false: pages go forward only.' },
    nodeQueryOptions: {
      ...weigh(1, READ),
      description: 'Whatever has this id; null if it does not exist.',
      args: { id: { description: 'As the API gave it.' } },
      resolve: (_root, { id }, _context, { schema }, load) => {
        requireNodeIds(schema, 'id', [id]);
        return load(id);
      },
    },
    nodesQueryOptions: {
      description: 'What these ids stand for, in their order; null for each that does not exist.',
      args: { ids: { description: 'As the API gave them; at most 100.' } },
      ...weigh(idItems, READ),
      resolve: (_root, { ids }, _context, { schema }, load) => {
        requireNodeIds(schema, 'ids', checkIds(ids));
        return load(ids);
      },
    },
  },
});

builder.queryType({ description: 'What can be read.' });
builder.mutationType({
  description: 'What can be changed. Expected failures are members of the result, not top-level errors.',
});
builder.subscriptionType({ description: 'What can be followed, over WebSocket or server-sent events.' });
