use fokker_solve::{Euler, Heun};
use fokker_tensor::{Dtype, Noise};

use super::*;
use crate::config::RunConfig;
use crate::sampling::Generate;
use crate::trainer::Trainer;

fn model() -> (DiffusionModel, Generate) {
    let settings = ["model.network.hidden=8", "model.network.blocks=1", "sample.count=40", "sample.batch=40"];
    let config = RunConfig::load("moons", &settings.map(str::to_owned)).unwrap();
    let model = Trainer::new(config.clone(), ".".as_ref()).unwrap().average().clone();
    let request = Generate::new(&config.sample, &model, 0);
    (model, request)
}

fn ruler() -> Ruler {
    Ruler::new(Features::Pixels, &Noise::new(0, 1).normal(&[40, 2], 0, 0, Dtype::F32), None).unwrap()
}

#[test]
fn keys_differ_with_everything_that_a_row_depends_on_and_with_nothing_else() {
    let (model, request) = model();
    let ruler = ruler();
    let way = Way { solver: Heun::default().into(), steps: 3 };
    let evaluation = Evaluation { model: &model, model_id: "a".into(), request, ruler: &ruler, seeds: 2 };
    let key = evaluation.key(&way).unwrap();
    assert_eq!(key, evaluation.key(&way.clone()).unwrap());
    let mut others = vec![
        evaluation.key(&Way { steps: 4, ..way.clone() }).unwrap(),
        evaluation.key(&Way { solver: Euler::default().into(), ..way.clone() }).unwrap(),
    ];
    let changed = |change: &dyn Fn(&mut Evaluation)| {
        let request = evaluation.request.clone();
        let mut other = Evaluation { model: &model, model_id: "a".into(), request, ruler: &ruler, seeds: 2 };
        change(&mut other);
        other.key(&way).unwrap()
    };
    others.push(changed(&|e| e.model_id = "b".into()));
    others.push(changed(&|e| e.seeds = 3));
    others.push(changed(&|e| e.request.seed = 1));
    others.push(changed(&|e| e.request.count = 39));
    others.push(changed(&|e| e.request.sampler.grid.t_max = Some(1.0)));
    let features = Features::Projection { width: 2, seed: 0 };
    let other = Ruler::new(features, &Noise::new(0, 1).normal(&[40, 2], 0, 0, Dtype::F32), None).unwrap();
    let ruled = Evaluation { request: evaluation.request.clone(), ruler: &other, model_id: "a".into(), ..evaluation };
    others.push(ruled.key(&way).unwrap());
    others.push(key);
    let distinct: std::collections::BTreeSet<_> = others.iter().collect();
    assert_eq!(distinct.len(), others.len());
}

#[test]
fn a_row_has_a_value_for_each_seed_and_counts_what_it_cost() {
    let (model, request) = model();
    let ruler = ruler();
    let evaluation = Evaluation { model: &model, model_id: "a".into(), request, ruler: &ruler, seeds: 3 };
    let (row, first) = evaluation.measure(&Way { solver: Euler::default().into(), steps: 4 }, &mut []).unwrap();
    assert_eq!((row.nfe, row.steps, row.name.as_str(), &row.failed), (Some(4), Some(4), "euler", &None));
    assert!(row.scores.values().all(|values| values.len() == 3) && row.rates.len() == 3);
    assert!(row.scores["sliced_wasserstein"].iter().any(|v| *v != row.scores["sliced_wasserstein"][0]));
    assert!(row.latency.unwrap() > 0.0);
    assert_eq!(first.as_ref().unwrap().shape(), [40, 2]);
    // The first seed's samples by the same ruler have its scores.
    let judged = judge(&ruler, "file", &first.unwrap(), 0).unwrap();
    for (name, values) in &judged.scores {
        assert_eq!(values[0], row.scores[name][0], "{name}");
    }
    let interval = row.score("recall").unwrap();
    assert!(interval.half_width.is_some() && row.score("nonesuch").is_none());
}

#[test]
fn rows_are_optimal_by_distance_coverage_and_calls() {
    let row = |distance: f64, coverage: f64, nfe: Option<usize>| {
        let scores = [("d".to_owned(), vec![distance]), ("coverage".to_owned(), vec![coverage])];
        Row { scores: scores.into(), nfe, ..Row::default() }
    };
    let rows = [
        row(0.1, 0.9, Some(20)),
        row(0.2, 0.8, Some(20)),
        row(0.2, 0.8, Some(10)),
        row(0.3, 0.95, Some(30)),
        row(0.0, 1.0, None),
    ];
    assert_eq!(optimal(&rows, "d"), [true, false, true, true, false]);
    let failed = Row { failed: Some("why".into()), nfe: Some(1), ..Row::default() };
    assert_eq!(optimal(&[failed], "d"), [false]);
}
