# syntax=docker/dockerfile:1
#
#   docker build --target cpu  -t longlive-service:cpu  .
#   docker build --target cuda -t longlive-service:cuda .
#
# Video is encoded by the distribution's OpenH264, in the native core; LONGLIVE_ENCODER=minih264 chooses the encoder that needs nothing.
# scripts/pin-images.sh puts the digests of today's base images behind their tags.
# Pocket travels in the image; other model packages are mounted at /models. The first start makes a token and a signing key,
# keeps them in /data and says how to open the page; LONGLIVE_TOKEN and LONGLIVE_SIGNING_KEY go before them.
ARG NODE_IMAGE=node:22-bookworm-slim
ARG CUDA_BUILD_IMAGE=nvidia/cuda:13.0.1-devel-ubuntu24.04
ARG CUDA_RUNTIME_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04
# As the runtime image's distribution calls the version.
ARG CUDA_LIBRARIES=13-0

FROM ${NODE_IMAGE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ make python3 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json ./
COPY packages/client/package.json packages/client/
RUN npm ci --no-audit --no-fund
COPY . .
RUN npm run build
RUN npm prune --omit=dev --no-audit --no-fund

FROM ${NODE_IMAGE} AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends libopenh264-7 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
ENV NODE_ENV=production PORT=4000 HOST=0.0.0.0 LONGLIVE_STORE=file:///data LONGLIVE_SECRETS=/data/.secrets LONGLIVE_MODEL_CACHE=/cache LONGLIVE_DEVICE=cpu LONGLIVE_ENCODER=openh264
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/native/build/longlive.node ./native/build/longlive.node
COPY --from=build /app/models ./models
RUN mkdir -p /data /cache /secrets && chown node:node /data /cache /secrets
USER node
VOLUME /data /cache
EXPOSE 4000
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s \
  CMD node -e "fetch('http://127.0.0.1:'+(process.env.PORT||4000)+'/healthz').then(r=>process.exit(r.ok?0:1),()=>process.exit(1))"
CMD ["node", "dist/cli/main.js", "serve"]

FROM ${CUDA_BUILD_IMAGE} AS native-cuda
RUN apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY native ./native
RUN make -C native CUDA=1

# Of CUDA's libraries the core opens libcublasLt alone; `-runtime` would bring some 2 GB more.
FROM ${CUDA_RUNTIME_IMAGE} AS cuda
ARG CUDA_LIBRARIES
RUN apt-get update && apt-get install -y --no-install-recommends libopenh264-7 libcublas-${CUDA_LIBRARIES} && rm -rf /var/lib/apt/lists/*
WORKDIR /app
ENV NODE_ENV=production PORT=4000 HOST=0.0.0.0 LONGLIVE_STORE=file:///data LONGLIVE_SECRETS=/data/.secrets LONGLIVE_MODEL_CACHE=/cache LONGLIVE_DEVICE=cuda LONGLIVE_ENCODER=openh264
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=cpu /app ./
COPY --from=native-cuda /app/native/build/longlive.node ./native/build/longlive.node
RUN useradd --create-home --uid 1001 longlive && mkdir -p /data /cache /secrets && chown longlive /data /cache /secrets
USER longlive
VOLUME /data /cache
EXPOSE 4000
HEALTHCHECK --interval=15s --timeout=3s --start-period=180s \
  CMD node -e "fetch('http://127.0.0.1:'+(process.env.PORT||4000)+'/healthz').then(r=>process.exit(r.ok?0:1),()=>process.exit(1))"
CMD ["node", "dist/cli/main.js", "serve"]
