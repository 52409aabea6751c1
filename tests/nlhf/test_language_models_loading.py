"""Models from folders, files and names, without a network where none is needed."""

import json
import socket

import pytest
import torch

from mdtheory.nlhf.language_models import PreferenceModel, PreferenceTrainer
from mdtheory.nlhf.language_models import grammar as world
from mdtheory.nlhf.language_models.loading import (
    Prompts,
    ends_of,
    load_model,
    load_tokenizer,
    local_path,
)
from tests.nlhf.language_models_cases import gpt2, llama
from tests.nlhf.language_models_training import TOPICS, spoken, weights, words

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    spoken().float().save_pretrained(place)
    words().save_pretrained(place)
    return place


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to reach another machine is refused, and counted."""
    attempts = []

    def refuse(*arguments, **more):
        attempts.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return attempts


def test_the_fixture_can_fail(no_network):
    with pytest.raises(OSError, match="no network here"):
        socket.create_connection(("localhost", 9))
    assert no_network


def test_local_paths_ask_nobody(folder, no_network, tmp_path):
    run = PreferenceTrainer(
        str(folder), preference=world.Annotators(), prompts=TOPICS, reference=folder, group=1,
        prompts_per_step=2, new_tokens=7, max_steps=2, learning_rate=1e-3, output=tmp_path,
        progress=False, lora={"r": 2},
    )  # fmt: skip
    run.train()
    run.save(tmp_path / "tuned")
    load_model(tmp_path / "tuned")
    reader = PreferenceModel(folder, form="{prompt} {first} {second}")
    reader.save(tmp_path / "reader")
    PreferenceModel.load(tmp_path / "reader")
    assert no_network == []


@pytest.mark.parametrize(
    "source", ["./nothing", "/nothing/here", "~/nothing-there", "model.gguf", "a/b/c", ""]
)
def test_a_missing_path_is_said_before_anybody_is_asked(source, no_network):
    with pytest.raises(FileNotFoundError, match="model: expected a folder or file that is there"):
        load_model(source)
    with pytest.raises(FileNotFoundError, match="tokenizer: expected a folder or file"):
        load_tokenizer(source)
    assert no_network == []


def test_names_are_no_paths():
    assert local_path("model", "somebody/some-model") is None
    assert local_path("model", "some-model") is None
    with pytest.raises(TypeError, match="model: expected a folder, a file or a name, got int"):
        local_path("model", 3)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"model: expected a folder with a config.json"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="tokenizer: expected one in"):
        load_tokenizer(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": None}))
    with pytest.raises(FileNotFoundError, match="model: expected a folder or file that is there"):
        load_model(tmp_path)


def test_numbers_are_kept_or_chosen(folder):
    assert load_model(folder).dtype == torch.float32
    assert load_model(folder, dtype=torch.bfloat16).dtype == torch.bfloat16
    model = spoken()
    assert load_model(model) is model
    assert model.dtype == torch.float64


# GGUF.


def write_gguf(path, model, tokenizer_words):
    """A small Llama as llama.cpp writes it, whole numbers of no kind lost."""
    gguf = pytest.importorskip("gguf")
    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokenizer_words)
    writer.add_token_merges([])
    writer.add_token_types([1] * len(tokenizer_words))
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(0)
    names = {"embed_tokens": "token_embd", "input_layernorm": "attn_norm", "q_proj": "attn_q",
             "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
             "post_attention_layernorm": "ffn_norm", "gate_proj": "ffn_gate",
             "up_proj": "ffn_up", "down_proj": "ffn_down", "norm": "output_norm",
             "lm_head": "output"}  # fmt: skip
    for name, weight in state.items():
        parts = name.split(".")
        label = names[parts[-2]]
        block = f"blk.{parts[2]}." if "layers" in parts else ""
        value = weight.detach().float()
        if parts[-2] in ("q_proj", "k_proj"):  # llama.cpp turns its angles in another order
            heads = config.num_attention_heads if parts[-2] == "q_proj" else (
                config.num_key_value_heads)  # fmt: skip
            half = value.unflatten(0, (heads, 2, -1))
            value = half.transpose(1, 2).flatten(0, 2)
        writer.add_tensor(f"{block}{label}.weight", value.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_read_and_can_be_saved(tmp_path, no_network):
    model = llama(3, vocabulary=8, dtype=torch.float32)
    write_gguf(tmp_path / "small.gguf", model, ["a", "b", "c", "d", "e", "f", "g", "h"])
    found = load_model(tmp_path / "small.gguf")
    tokens = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
        torch.testing.assert_close(found(input_ids=tokens).logits, expected, rtol=1e-4, atol=1e-4)
    found.save_pretrained(tmp_path / "plain")  # what was read as GGUF refuses this by itself
    again = load_model(tmp_path / "plain")
    assert torch.equal(weights(again), weights(found))
    assert no_network == []


# Prompts.


def test_ends_are_those_of_the_generation_config_and_the_tokenizer():
    model = gpt2(1, vocabulary=40)
    model.generation_config.eos_token_id = [7, 9]
    assert ends_of(words(), model) == (7, 9, 0)
    model.generation_config.eos_token_id = None
    assert ends_of(words(), model) == (0,)

    class Plain:
        eos_token_id = None

    with pytest.raises(ValueError, match="tokenizer: expected an end-of-sequence token"):
        ends_of(Plain(), model)


def test_prompts_are_padded_on_the_left_and_may_hold_the_end():
    prompts = Prompts(words(), spoken())
    tokens, mask = prompts.encode(["film", "film . book", "the film"], CPU)
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1], [0, 1, 1]]
    assert tokens[:, -1].tolist() == words()("film book film")["input_ids"]
    assert tokens[1, 1] == 0
    with pytest.raises(ValueError, match="prompts: expected prompts of at least one token"):
        prompts.encode(["film", ""], CPU)


def test_answers_are_texts_without_their_end():
    answers = torch.tensor(words()(["film is good . .", "i love . . ."])["input_ids"])
    assert Prompts(words(), spoken()).decode(answers) == ["film is good", "i love"]
