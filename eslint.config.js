import js from '@eslint/js';
import tseslint from 'typescript-eslint';

/**
 * The layers of docs/architecture.md: cli -> server -> api -> sessions, and engine -> packages -> import -> files.
 * engine, packages, media, storage and cluster implement interfaces that sessions owns: of it they may import
 * src/sessions/ports.ts and errors.ts, nothing else.
 */
const forbidden = {
  server: ['cli'],
  api: ['cli', 'server', 'engine', 'packages', 'import', 'files', 'media', 'storage', 'cluster'],
  sessions: ['cli', 'server', 'api', 'engine', 'packages', 'import', 'files', 'media', 'storage', 'cluster'],
  engine: ['cli', 'server', 'api', 'media', 'storage', 'cluster'],
  packages: ['cli', 'server', 'api', 'engine', 'media', 'storage', 'cluster'],
  import: ['cli', 'server', 'api', 'sessions', 'engine', 'packages', 'media', 'storage', 'cluster'],
  files: ['cli', 'server', 'api', 'sessions', 'engine', 'packages', 'media', 'storage', 'cluster', 'import'],
  media: ['cli', 'server', 'api', 'engine', 'packages', 'import', 'files', 'storage', 'cluster'],
  storage: ['cli', 'server', 'api', 'engine', 'packages', 'import', 'media', 'cluster'],
  cluster: ['cli', 'server', 'api', 'engine', 'packages', 'import', 'files', 'media', 'storage'],
};

const implementPorts = ['engine', 'packages', 'media', 'storage', 'cluster'];

const outside = {
  sessions: ['graphql*', '@pothos/*', '@aws-sdk/*', 'ws', 'node:http*'],
};

const layers = Object.entries(forbidden).map(([layer, folders]) => ({
  files: [`src/${layer}/**/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          { regex: `^(\\.\\./)+(${folders.join('|')})/`, message: `${layer} must not import upward or sideways.` },
          ...(implementPorts.includes(layer)
            ? [
                {
                  regex: '^(\\.\\./)+sessions/(?!(ports|errors)\\.js$)',
                  message: `${layer} may import the ports and errors of sessions, nothing else of it.`,
                },
              ]
            : []),
          ...(outside[layer] ? [{ group: outside[layer], message: `${layer} knows no transport and no cloud.` }] : []),
        ],
      },
    ],
  },
}));

export default tseslint.config(
  { ignores: ['dist/', 'packages/*/dist/', 'native/build/', 'infra/', 'data/', 'models/', 'training/', 'coverage/'] },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['eslint.config.js', 'scripts/*.mjs'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
    },
  },
  { files: ['**/*.{js,mjs}'], ...tseslint.configs.disableTypeChecked },
  {
    files: ['**/*.mjs', 'eslint.config.js'],
    languageOptions: {
      globals: {
        process: 'readonly',
        console: 'readonly',
        URL: 'readonly',
        fetch: 'readonly',
        setTimeout: 'readonly',
        Buffer: 'readonly',
        structuredClone: 'readonly',
      },
    },
  },
  ...layers,
  {
    // What a stranger's file says must not forge lines on a terminal.
    files: ['src/{import,packages}/**/*.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        ...['', '> BinaryExpression ', '> BinaryExpression > BinaryExpression '].map((inner) => ({
          selector: `NewExpression[callee.name=/^(Import|Foreign|Remote|Checksum)Error$/] ${inner}> TemplateLiteral[expressions.length>0]`,
          message: 'Write the message as printed`…`, or with printable() where it has lines of its own.',
        })),
      ],
    },
  },
  { files: ['src/{sessions,packages,engine}/**/*.ts'], rules: { 'max-lines': ['error', 400] } },
);
