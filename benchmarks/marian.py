"Our Transformer and transformers' MarianMTModel with the same weights"
import torch
from transformers import MarianConfig, MarianMTModel
from regurgitation.transformer import BOS, EOS, PAD, Shape, Transformer

def marian_config(shape, # a Shape
                  longest=512, # positions in the table
                 ) -> MarianConfig:
    "The configuration of a MarianMTModel of the same sizes; everything else is Marian's default or what weight sharing needs"
    return MarianConfig(vocab_size=shape.vocab_size, d_model=shape.d_model, max_position_embeddings=longest, activation_function='relu',
        encoder_layers=shape.layers, decoder_layers=shape.layers, encoder_attention_heads=shape.heads, decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.ff, decoder_ffn_dim=shape.ff, dropout=shape.dropout, scale_embedding=True,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, decoder_start_token_id=BOS, forced_eos_token_id=None)

OURS = dict(attention='self_attn', cross='encoder_attn')
NORMS = dict(norm_attention='self_attn_layer_norm', norm_cross='encoder_attn_layer_norm', norm_feed='final_layer_norm')

def _layer(theirs, ours, weights):
    "Fill the weights of one of our blocks from the names of one of Marian's layers"
    for mine, name in OURS.items():
        if f'{theirs}.{name}.q_proj.weight' not in weights: continue
        for kind in ('weight', 'bias'):
            yield f'{ours}.{mine}.qkv.{kind}', torch.cat([weights[f'{theirs}.{name}.{p}_proj.{kind}'] for p in 'qkv'])
            yield f'{ours}.{mine}.out.{kind}', weights[f'{theirs}.{name}.out_proj.{kind}']
    for mine, name in (NORMS | {'feed.0': 'fc1', 'feed.2': 'fc2'}).items():
        for kind in ('weight', 'bias'):
            if f'{theirs}.{name}.{kind}' in weights: yield f'{ours}.{mine}.{kind}', weights[f'{theirs}.{name}.{kind}']

def from_marian(marian, # MarianMTModel with ReLU, scaled and shared embeddings, and at least 512 positions
                label_smoothing=0.0) -> Transformer: # in eval mode
    "Our Transformer (norm after each block, a table of positions) with Marian's weights"
    c, weights = marian.config, marian.state_dict()
    assert c.activation_function == 'relu' and c.scale_embedding and not weights['final_logits_bias'].any()
    shape = Shape(c.vocab_size, c.d_model, c.encoder_layers, c.encoder_attention_heads, c.encoder_ffn_dim, c.dropout, 'post', 'learned', label_smoothing)
    ours = {'embedding.weight': weights['model.shared.weight'], 'places.weight': weights['model.encoder.embed_positions.weight'][:512]}
    for side in ('encoder', 'decoder'):
        for i in range(shape.layers): ours |= dict(_layer(f'model.{side}.layers.{i}', f'{side}.{i}', weights))
    model = Transformer(shape)
    model.load_state_dict(ours)
    return model.eval()

def to_marian(model, # Transformer with norm 'post' and positions 'learned'
             ) -> MarianMTModel: # in eval mode
    "Marian with our weights, as `from_marian` would read them"
    marian, weights = MarianMTModel(marian_config(model.shape)), model.state_dict()
    theirs = {k: v for k, v in marian.state_dict().items()}
    for side in ('encoder', 'decoder'):
        theirs[f'model.{side}.embed_positions.weight'] = weights['places.weight']
        for i in range(model.shape.layers):
            for name, ours in _names(f'model.{side}.layers.{i}', f'{side}.{i}', theirs):
                theirs[name] = weights[ours[0]] if ours[1] is None else weights[ours[0]].chunk(3)[ours[1]]
    for name in ('model.shared.weight', 'model.encoder.embed_tokens.weight', 'model.decoder.embed_tokens.weight', 'lm_head.weight'):
        if name in theirs: theirs[name] = weights['embedding.weight']
    marian.load_state_dict(theirs)
    return marian.eval()

def _names(theirs, ours, weights):
    "For each of Marian's names in a layer: our name, and which third of it"
    renamed = {v: k for k, v in (NORMS | {'feed.0': 'fc1', 'feed.2': 'fc2'}).items()}
    for name in (n for n in weights if n.startswith(theirs + '.')):
        *path, kind = name[len(theirs) + 1:].split('.')
        if len(path) == 1: yield name, (f'{ours}.{renamed[path[0]]}.{kind}', None)
        else:
            mine, part = next(k for k, v in OURS.items() if v == path[0]), path[1].split('_')[0]
            yield name, (f'{ours}.{mine}.out.{kind}', None) if part == 'out' else (f'{ours}.{mine}.qkv.{kind}', 'qkv'.index(part))
