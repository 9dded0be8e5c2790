"JoeyNMT's own training loop, timed. Runs in JoeyNMT's environment: python benchmarks/joey.py CONFIG.yaml"
import math, sys
from pathlib import Path
from clock import Clock
import torch
from joeynmt.config import load_config, parse_global_args, set_validation_args
from joeynmt.helpers import make_model_dir
from joeynmt.prediction import prepare
from joeynmt.training import TrainManager

def main(config):
    cfg, clock = load_config(Path(config)), Clock()
    make_model_dir(Path(cfg['model_dir']), overwrite=True)
    args = parse_global_args(cfg, rank=0, mode='train')
    model, train_data, dev_data, _ = prepare(args, rank=0, mode='train')
    trainer = TrainManager(model=model, model_dir=args.model_dir, device=args.device, rank=0, autocast=args.autocast, seed=args.seed,
                           train_args=args.train, dev_args=set_validation_args(args.test))
    turn, step = {'epoch': 0, 'pairs': 0}, trainer._train_step
    def counted(batch): # a round is an epoch: cut where the trainer's epoch changes
        if turn['epoch'] != trainer.stats.epochs:
            if turn['pairs']: clock.stop(pairs=turn['pairs'])
            turn.update(epoch=trainer.stats.epochs, pairs=0)
            clock.start()
        turn['pairs'] += batch.nseqs
        return step(batch)
    trainer._train_step = counted
    trainer._save_checkpoint = lambda *_: clock.stop(pairs=turn['pairs']) # called once, at the end: not part of the time
    trainer.train_and_validate(train_data=train_data, valid_data=dev_data)
    clock.start()
    clock.final(dev_loss=bits_per_byte(model, dev_data, args, cfg['target_bytes']), parameters=sum(p.numel() for p in model.parameters()), steps=trainer.stats.steps)

@torch.no_grad()
def bits_per_byte(model, data, args, target_bytes):
    model.eval()
    batches = data.make_iter(batch_size=64, shuffle=False, num_workers=0, device=args.device, eos_index=model.eos_index, pad_index=model.pad_index)
    return sum(model(return_type='loss', **vars(b))[0].item() for b in batches)/math.log(2)/target_bytes

if __name__ == '__main__': main(sys.argv[1])
