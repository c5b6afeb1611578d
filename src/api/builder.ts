import SchemaBuilder from '@pothos/core';
import ErrorsPlugin from '@pothos/plugin-errors';
import RelayPlugin from '@pothos/plugin-relay';
import type { ApiContext } from './context.js';
import { formatGlobalId, splitGlobalId } from './ids.js';
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
    defaultUnionOptions: { name: ({ fieldName }) => `${upperFirst(fieldName)}Result` },
  },
  relay: {
    encodeGlobalID: (type, id) => formatGlobalId(type, String(id)),
    decodeGlobalID: splitGlobalId,
    cursorType: 'String',
    nodeQueryOptions: weigh(1, READ),
    nodesQueryOptions: {
      ...weigh(idItems, READ),
      resolve: (_root, { ids }, _context, _info, load) => load(checkIds(ids) as never),
    },
  },
});

builder.queryType({});
builder.mutationType({});
builder.subscriptionType({});
