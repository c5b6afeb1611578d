/**
 * Which layouts of other people's adapters, checkpoints and files are known: the one table of them. The readers go by its
 * patterns, docs/models.md shows it (scripts/print-layouts.ts writes it there), test/unit/import/layouts.test.ts walks it.
 */

// -- names

/** In front of the names of a network or of what adapts it. They may follow each other. */
export const PREFIXES = [
  ...[
    'model.',
    'module.',
    'diffusion_model.',
    'transformer.',
    'base_model.',
    'generator.',
    'pipe.',
    'dit.',
    'net.',
    'unet.',
  ],
  ...['network.', 'denoiser.', 'backbone.', 'student.', 'wan.', 'wan_model.', 'video_model.', 'transformer_model.'],
  ...['vae.', 'first_stage_model.', 'text_encoder.', 'text_encoders.', 'umt5xxl.', 'cond_stage_model.'],
];

/** Files that hold several networks call each by a prefix of its own. */
export const BUNDLED = [
  /^(?:model\.diffusion_model|diffusion_model|transformer|dit)\./,
  /^(?:vae|first_stage_model)\./,
  /^(?:text_encoders?|cond_stage_model)\./,
];

/** Weights of a training run, in one dict with those that it is for: as if each stood under a key of its own. */
export const APART =
  /^(generator_ema|model_ema|ema_model|ema|critic|fake_score|real_score|teacher|discriminator|real_model|fake_model)\.(?=.)/;
/** Where checkpoints keep averaged weights. */
export const EMA_KEYS = [
  ...['generator_ema', 'model_ema', 'ema_model', 'ema', 'ema_state_dict', 'state_dict_ema', 'params_ema', 'ema_params'],
];

/** Queries, keys and values in one matrix, as reference names call them or as Diffusers does (fuse_qkv_projections). */
export const FUSED = /^(blocks\.\d+\.(?:self|cross)_attn)\.(?:to_)?(qkv|kv)\.(weight|bias)$/;

/** Tensors that stand beside the weights in some repackagings; never part of a prefix. */
export const TOKENIZER_TENSOR = 'spiece_model';
export const MARKS = /^(?:.+\.)?(?:scaled_fp8|spiece_model|_extra_state)$/;

// -- adapters

export interface AdapterLayout {
  title: string;
  writers: string;
  /** Whose names the modules have. */
  modules: 'Wan' | 'Diffusers';
  /** {module} is blocks.0.self_attn.q, {flat} blocks_0_self_attn_q, {half} blocks_0.self_attn.q, {parent} and {leaf} its two parts. */
  a: string;
  b: string;
  alpha?: string;
}

export const ADAPTERS: readonly AdapterLayout[] = [
  row(
    'PEFT',
    'PEFT, in a folder with adapter_config.json; LongLive, under generator_lora',
    'Wan',
    'base_model.model.{module}.lora_A.weight',
  ),
  row('PEFT with the adapter named', 'PEFT state dicts', 'Wan', 'base_model.model.{module}.lora_A.default.weight'),
  row('Diffusers', 'Diffusers, finetrainers, SimpleTuner', 'Diffusers', 'transformer.{module}.lora_A.weight'),
  row('Diffusers, older', 'Diffusers before PEFT', 'Diffusers', 'transformer.{module}.lora.down.weight'),
  row(
    'Diffusers, attention processors',
    'Diffusers before 0.20',
    'Diffusers',
    'transformer.{parent}.processor.{leaf}_lora.down.weight',
  ),
  row('ComfyUI', 'ai-toolkit, diffusion-pipe, musubi-tuner converted', 'Wan', 'diffusion_model.{module}.lora_A.weight'),
  row(
    'ComfyUI, down and up',
    'extracted adapters',
    'Wan',
    'diffusion_model.{module}.lora_down.weight',
    'diffusion_model.{module}.alpha',
  ),
  row(
    'ComfyUI, whole models',
    'adapters cut out of checkpoints',
    'Wan',
    'model.diffusion_model.{module}.lora_A.weight',
  ),
  row('DiffSynth', 'DiffSynth-Studio', 'Wan', '{module}.lora_A.default.weight'),
  row('DiffSynth, whole pipeline', 'DiffSynth-Studio', 'Wan', 'pipe.dit.{module}.lora_A.default.weight'),
  row('Wan', 'trainers with Wan’s own names', 'Wan', '{module}.lora_A.weight'),
  row(
    'kohya, two underscores',
    'forks of musubi-tuner',
    'Wan',
    'lora_unet__{flat}.lora_down.weight',
    'lora_unet__{flat}.alpha',
  ),
  row('kohya, dotted', 'converters', 'Wan', 'lora_unet_{half}.lora_down.weight', 'lora_unet_{half}.alpha'),
  row('kohya', 'musubi-tuner, sd-scripts', 'Wan', 'lora_unet_{flat}.lora_down.weight', 'lora_unet_{flat}.alpha'),
  row(
    'kohya in Diffusers’ names',
    'OneTrainer',
    'Diffusers',
    'lora_transformer_{flat}.lora_down.weight',
    'lora_transformer_{flat}.alpha',
  ),
  row('LyCORIS (LoCon)', 'LyCORIS', 'Wan', 'lycoris_{flat}.lora_down.weight', 'lycoris_{flat}.alpha'),
];

function row(
  title: string,
  writers: string,
  modules: AdapterLayout['modules'],
  a: string,
  alpha?: string,
): AdapterLayout {
  const b = a.replace('lora_A', 'lora_B').replace('lora_down', 'lora_up').replace('lora.down', 'lora.up');
  return { title, writers, modules, a, b: b.replace('_lora.down', '_lora.up'), ...(alpha !== undefined && { alpha }) };
}

/** What a tensor of an adapter is for its module. */
export type Part = 'a' | 'b' | 'alpha' | 'weight' | 'bias' | 'modulation';

/** The first that fits; the module is what stands in front. */
export const PARTS: readonly { pattern: RegExp; part: Part }[] = [
  {
    pattern:
      /^(.+)\.(?:lora_[Aa]|lora_down|lora\.down|lora_linear_layer\.down)(?:\.(?!weight(?:\.|$))[^.]+)?(?:\.weight)?$/,
    part: 'a',
  },
  {
    pattern:
      /^(.+)\.(?:lora_[Bb]|lora_up|lora\.up|lora_linear_layer\.up)(?:\.(?!(?:weight|bias)(?:\.|$))[^.]+)?(?:\.weight)?$/,
    part: 'b',
  },
  { pattern: /^(.+\.processor\.to_(?:[qkv]|out)_lora)\.down\.weight$/, part: 'a' },
  { pattern: /^(.+\.processor\.to_(?:[qkv]|out)_lora)\.up\.weight$/, part: 'b' },
  { pattern: /^(.+)\.(?:alpha|lora_alpha|network_alpha)(?:\.(?!weight$)[^.]+)?$/, part: 'alpha' },
  // ComfyUI's differences: added as they are.
  { pattern: /^(.+)\.diff$/, part: 'weight' },
  { pattern: /^(.+)\.diff_b$/, part: 'bias' },
  // LyCORIS's differences of norms.
  { pattern: /^(.+)\.w_norm$/, part: 'weight' },
  { pattern: /^(.+)\.b_norm$/, part: 'bias' },
  { pattern: /^(.+)\.diff_m$/, part: 'modulation' },
];

/** Adapters that are more, or something else, than two factors. */
export const OTHER_ADAPTERS: readonly { title: string; example: string; sign: RegExp }[] = [
  {
    title: 'DoRA',
    example: 'blocks.0.self_attn.q.lora_magnitude_vector',
    sign: /\.(?:dora_scale|lora_magnitude_vector)(?:\.|$)/,
  },
  { title: 'LoKr', example: 'lycoris_blocks_0_self_attn_q.lokr_w1', sign: /\.lokr_/ },
  { title: 'LoHa', example: 'lycoris_blocks_0_self_attn_q.hada_w1_a', sign: /\.hada_/ },
  {
    title: 'LoCon with a middle factor (Tucker)',
    example: 'lycoris_blocks_0_self_attn_q.lora_mid.weight',
    sign: /\.lora_mid(?:\.|$)/,
  },
  {
    title: 'LyCORIS with a trained scale (use_scalar)',
    example: 'lycoris_blocks_0_self_attn_q.scalar',
    sign: /\.scalar$/,
  },
  { title: 'OFT', example: 'blocks.0.self_attn.q.oft_blocks', sign: /\.(?:oft_|boft_|oft_blocks)/ },
  { title: 'IA3', example: 'base_model.model.blocks.0.ffn.0.ia3_l', sign: /\.(?:ia3_l|on_input)(?:\.|$)/ },
  { title: 'GLoRA', example: 'lycoris_blocks_0_self_attn_q.a1.weight', sign: /\.(?:a1|a2|b1|b2)\.weight$/ },
  {
    title: 'AdaLoRA',
    example: 'base_model.model.blocks.0.self_attn.q.lora_E',
    sign: /\.(?:lora_E|ranknum)(?:\.|$)/,
  },
  { title: 'VeRA', example: 'base_model.vera_A', sign: /vera_(?:lambda|A|B)/ },
  {
    title: 'LoRA with biases of its own',
    example: 'base_model.model.blocks.0.self_attn.q.lora_B.bias',
    sign: /\.lora_(?:A|B|up|down)(?:\.[^.]+)?\.bias$/,
  },
  { title: 'LoRA of an embedding', example: 'base_model.model.embed.lora_embedding_A', sign: /\.lora_embedding_[AB]/ },
  {
    title: 'adapter with whole layers (modules_to_save)',
    example: 'base_model.model.head.modules_to_save.weight',
    sign: /\.(?:modules_to_save|set_weight|reshape_weight)(?:\.|$)/,
  },
];

export const MERGE_ELSEWHERE =
  'Merge it into the original weights with the tool that trained it and import these, or convert it to a plain LoRA.';

/** Adapters for what LongLive does not adapt. */
export const OTHER_NETWORKS: readonly { title: string; example: string; sign: RegExp }[] = [
  {
    title: 'the text encoder',
    example: 'lora_te_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight',
    sign: /^(?:base_model\.)?(?:text_encoders?\d?[._]|lora_te\d?_|cond_stage_model\.|te\d?[._])/,
  },
  {
    title: 'a second video network (Wan 2.2)',
    example: 'transformer_2.blocks.0.attn1.to_q.lora_A.weight',
    sign: /^(?:transformer_2\.|pipe\.dit2\.|dit2\.|lora_transformer_2_|(?:high|low)_noise(?:_model)?\.)/,
  },
  {
    title: 'the video codec',
    example: 'vae.decoder.conv1.lora_A.weight',
    sign: /^(?:vae\.|lora_vae_|first_stage_model\.)/,
  },
  {
    title: 'an image encoder',
    example: 'image_encoder.blocks.0.q.lora_A.weight',
    sign: /^(?:image_encoder\.|clip_|pipe\.image_encoder\.)/,
  },
];

// -- networks

export interface NetworkLayout {
  network: 'dit' | 'textEncoder' | 'vae' | 'tinyVae';
  title: string;
  example: string;
  /** Of the reference's names, for layouts that only put something in front. */
  prefix?: string;
}

export const NETWORKS: readonly NetworkLayout[] = [
  { network: 'dit', title: 'Wan, LongLive, Self-Forcing', example: 'blocks.0.self_attn.q.weight', prefix: '' },
  { network: 'dit', title: 'LongLive’s training', example: 'model.blocks.0.self_attn.q.weight', prefix: 'model.' },
  {
    network: 'dit',
    title: 'the same under FSDP',
    example: 'model._fsdp_wrapped_module.blocks.0…',
    prefix: 'model._fsdp_wrapped_module.',
  },
  { network: 'dit', title: 'torch.compile', example: '_orig_mod.blocks.0…', prefix: '_orig_mod.' },
  { network: 'dit', title: 'DataParallel', example: 'module.blocks.0…', prefix: 'module.' },
  { network: 'dit', title: 'ComfyUI', example: 'model.diffusion_model.blocks.0…', prefix: 'model.diffusion_model.' },
  { network: 'dit', title: 'ComfyUI, short', example: 'diffusion_model.blocks.0…', prefix: 'diffusion_model.' },
  { network: 'dit', title: 'DiffSynth-Studio', example: 'pipe.dit.blocks.0…', prefix: 'pipe.dit.' },
  { network: 'dit', title: 'DiffSynth-Studio, short', example: 'dit.blocks.0…', prefix: 'dit.' },
  { network: 'dit', title: 'training wrappers', example: 'generator.model.blocks.0…', prefix: 'generator.model.' },
  { network: 'dit', title: 'Diffusers (WanTransformer3DModel)', example: 'blocks.0.attn1.to_q.weight' },
  { network: 'textEncoder', title: 'Wan', example: 'blocks.0.attn.q.weight', prefix: '' },
  { network: 'textEncoder', title: 'Hugging Face, ComfyUI', example: 'encoder.block.0.layer.0.SelfAttention.q.weight' },
  {
    network: 'textEncoder',
    title: 'Wan inside a whole model',
    example: 'text_encoder.blocks.0…',
    prefix: 'text_encoder.',
  },
  { network: 'vae', title: 'Wan, ComfyUI', example: 'decoder.middle.0.residual.2.weight', prefix: '' },
  { network: 'vae', title: 'Wan inside a whole model', example: 'vae.decoder.middle.0…', prefix: 'vae.' },
  { network: 'vae', title: 'DiffSynth-Studio', example: 'model.decoder.middle.0…', prefix: 'model.' },
  { network: 'vae', title: 'Diffusers (AutoencoderKLWan)', example: 'decoder.mid_block.resnets.0.conv1.weight' },
  { network: 'tinyVae', title: 'TAEHV', example: 'decoder.3.conv.0.weight', prefix: '' },
];

// -- quantized weights

export interface QuantizedKind {
  title: string;
  example: string;
  /** A tensor that only this kind has. */
  sign: RegExp;
  /** Whether --dequantize can read it. */
  read: boolean;
}

export const QUANTIZED: readonly QuantizedKind[] = [
  {
    title: 'bitsandbytes',
    example: 'blocks.0.self_attn.q.weight.quant_state.bitsandbytes__nf4',
    sign: /\.(?:quant_state\.|absmax$|nested_absmax$|quant_map$|SCB$)/,
    read: false,
  },
  {
    title: 'GPTQ, AWQ or SVDQuant',
    example: 'blocks.0.self_attn.q.qweight',
    sign: /\.(?:qweight|qzeros|wscales|g_idx)$/,
    read: false,
  },
  {
    title: 'Quanto or torchao',
    example: 'blocks.0.self_attn.q.weight._data',
    sign: /\.weight\._(?:data|scale|layout)|\.weight_qdata$/,
    read: false,
  },
  {
    title: 'NVFP4 or MXFP4',
    example: 'blocks.0.self_attn.q.weight_scale_2',
    sign: /\.(?:weight_scale_2|weight_packed)$/,
    read: false,
  },
  {
    title: 'fp8 in blocks (weight_scale_inv)',
    example: 'blocks.0.self_attn.q.weight_scale_inv',
    sign: /\.weight_scale_inv$/,
    read: false,
  },
  {
    title: 'fp8-scaled (ComfyUI: scale_weight, scaled_fp8)',
    example: 'blocks.0.self_attn.q.scale_weight',
    sign: /(?:\.scale_weight|(?:^|\.)scaled_fp8)$/,
    read: true,
  },
  {
    title: '8 bits with weight_scale (ComfyUI, lightx2v, packages of LongLive)',
    example: 'blocks.0.self_attn.q.weight_scale',
    sign: /\.weight_scale$/,
    read: true,
  },
];
/** Weights that were only cast. */
export const PLAIN_FP8 = 'plain fp8 (E4M3 or E5M2, without scales)';
/** Of 8 bits or fewer, with more scales than rows. */
export const BLOCK_SCALES = 'numbers with scales for parts of rows (MXFP8 and the like)';
/** Weights of type I8 or U8 whose scales nobody here knows. */
export const UNKNOWN_BITS = 'whole numbers of 8 bits or less, in an unknown layout';

// -- files

/** Files with weights that are not read, and the way out. */
export const OTHER_FILES: readonly { title: string; name: RegExp; advice: string }[] = [
  {
    title: 'a shard of a checkpoint of torch.distributed (DCP)',
    name: /\.distcp$/i,
    advice: 'convert its folder: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt',
  },
  { title: 'a GGUF file, which holds quantized weights', name: /\.gguf$/i, advice: 'take the original checkpoint' },
  { title: 'an ONNX model', name: /\.onnx$/i, advice: 'take the checkpoint that it was made of' },
  { title: 'a TensorRT engine', name: /\.(?:engine|plan|trt)$/i, advice: 'take the checkpoint that it was made of' },
  { title: 'a TensorFlow or Flax file', name: /\.(?:h5|msgpack|pb|tflite)$/i, advice: 'take the PyTorch checkpoint' },
  { title: 'a NumPy or pickle file', name: /\.(?:npz|npy|pkl|pickle)$/i, advice: 'save a state dict with torch.save' },
  {
    title: 'a part of a split file',
    name: /\.(?:safetensors|sft|pt|pth|ckpt|bin)\.(?:part[-_]?\w+|\d{2,4}|[a-z]{2})$/i,
    advice: 'join the parts in their order first: cat FILE.* > FILE',
  },
  {
    title: 'an unfinished download',
    name: /\.(?:part|partial|crdownload|incomplete|download|aria2|tmp|!qb)$/i,
    advice: 'finish the download',
  },
  { title: 'an archive', name: /\.(?:zip|tar|tgz|gz|7z|rar|zst|bz2|xz)$/i, advice: 'unpack it first' },
];

export const WEIGHT_FILES = /\.(?:pt|pth|ckpt|bin|safetensors|sft)$/i;
/** Beside weights, in folders of trainers: optimizers, random numbers, settings of the run. */
export const TRAINING_STATE =
  /^(?:optimizer|scheduler|scaler|training_args|rng_state|random_states|lr_scheduler)[\w.-]*$|_optim_states\.pt$/i;
/** `model.safetensors.index.json`, and of a variant `model.safetensors.index.fp16.json`. */
export const INDEX_FILES = /\.index(?:\.[\w-]+)?\.json$/i;
/** `model-00001-of-00003.safetensors`, `pytorch_model_1_of_2.bin`. */
export const SHARD_FILE =
  /^(.+?)[-_.](\d{1,6})[-_]of[-_](\d{1,6})((?:\.[\w-]+)?\.(?:safetensors|sft|bin|pt|pth|ckpt))$/i;
