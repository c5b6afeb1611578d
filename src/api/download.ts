import type { SchemaTypes } from './builder.js';

type Fields<Shape> = PothosSchemaTypes.ObjectFieldBuilder<PothosSchemaTypes.ExtendDefaultTypes<SchemaTypes>, Shape>;

/** Where a stored file is downloaded from, and until when. */
export const downloadFields = <Shape extends { key: string }>(t: Fields<Shape>) => ({
  url: t.string({
    description: 'Signed download URL that supports `Range`. May redirect to the store.',
    resolve: ({ key }, _args, { links }) => links.to(key).url,
  }),
  expiresAt: t.field({
    type: 'DateTime',
    description: 'When `url` expires; query again for a new one.',
    resolve: ({ key }, _args, { links }) => links.to(key).expiresAt,
  }),
});
